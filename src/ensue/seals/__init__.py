"""Tamper evidence: the log as a Merkle tree with signed checkpoints, proofs, and a verifier that needs no database."""

from ensue.seals.findings import Finding, Verified
from ensue.seals.keys import SigningKey, write_key
from ensue.seals.proving import Growth, Proof
from ensue.seals.sealer import NAME, Bell, Sealer, sealing, signing
from ensue.seals.sealing import Sealed, Standing
from ensue.seals.seals import Seals
from ensue.seals.targets import CheckpointSealed, Party
from ensue.seals.verifier import Checkpoint

__all__ = [
    "NAME",
    "Bell",
    "Checkpoint",
    "CheckpointSealed",
    "Finding",
    "Growth",
    "Party",
    "Proof",
    "Sealed",
    "Sealer",
    "Seals",
    "SigningKey",
    "Standing",
    "Verified",
    "sealing",
    "signing",
    "write_key",
]
