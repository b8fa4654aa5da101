select size, position from ensue.seal
