select size, position from ensue_seal
