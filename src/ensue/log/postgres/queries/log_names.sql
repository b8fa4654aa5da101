select name from ensue.log
