select size, position from ensue.seal for update
