"""Verifies a copy of a log with aics-tlog: verify.py DIR LOG.VKEY OLD.CHECKPOINT [WITNESS.VKEY]

Ends with status 1 and a reason unless the log's key has signed both checkpoints (and the witness the newer one), every
tile and every entry belongs to the newer one, and that continues the older one.
"""

import sys
from pathlib import Path

from aics_tlog import (
    FileSystemTileReader,
    audit_tiles,
    consistency_proof_from_tiles,
    parse_checkpoint,
    parse_note,
    parse_vkey,
    verify_checkpoint,
    verify_consistency,
)


def signed_head(path, log, witnesses=()):
    note = parse_note(Path(path).read_bytes())
    result = verify_checkpoint(note, log, list(witnesses), len(witnesses))
    if not result.ok:
        raise ValueError(f"{path}: {result.error}")
    return parse_checkpoint(note.text)


def verify(folder, log_file, old_file, *witness_files):
    log, *witnesses = [parse_vkey(Path(f).read_text().strip()) for f in (log_file, *witness_files)]
    head = signed_head(Path(folder) / "checkpoint", log, witnesses)
    old = signed_head(old_file, log)
    tiles = FileSystemTileReader(folder)
    audit_tiles(tiles, head.size, head.root)
    if old.size > head.size:
        raise ValueError(f"{head.size} entries are fewer than the {old.size} of before")
    proof = consistency_proof_from_tiles(tiles, old.size, head.size)
    if not verify_consistency(old.size, head.size, old.root, head.root, proof):
        raise ValueError(f"{head.size} entries do not continue the {old.size} of before")
    print(f"{head.size} entries, continuing {old.size}")


if __name__ == "__main__":
    try:
        verify(*sys.argv[1:])
    except Exception as error:  # Whatever is wrong with a copy, it is not accepted.
        sys.exit(f"{type(error).__name__}: {error}")
