select name from ensue_log
