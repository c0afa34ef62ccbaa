"""Synthetic slide rails as a data set: a DCASE 2020 tree that says where every fault is heard.

The simulator (`adjax.simulator.clips`) gives the fault's own part of a clip. Here that becomes a mask over
frames and mel bands (`fault_mask`), its summary in seconds and bands (`FaultSpans`), and a tree on disk
(`write_tree`) that the rest of adjax reads like any other data:

    <root>/slider/train/normal_id_00_00000000.wav
    <root>/slider/test/normal_id_00_00000000.wav, anomaly_id_00_00000000.wav
    <root>/slider/ground_truth.csv

The same counts, SNR and seed give the same files, bit for bit, on one machine.
"""

from adjax.simulator.tree import (
    FULL,
    SEVERITIES,
    SMALL,
    ClipCounts,
    ClipPlan,
    MadeClip,
    make_clips,
    plan_clips,
    write_tree,
)
from adjax.simulator.truth import (
    GROUND_TRUTH,
    HOP_LENGTH,
    MASK_THRESHOLD_DB,
    N_FFT,
    N_MELS,
    FaultSpans,
    TruthRow,
    fault_mask,
    fault_spans,
    read_ground_truth,
    write_ground_truth,
)

__all__ = [
    "FULL",
    "GROUND_TRUTH",
    "HOP_LENGTH",
    "MASK_THRESHOLD_DB",
    "N_FFT",
    "N_MELS",
    "SEVERITIES",
    "SMALL",
    "ClipCounts",
    "ClipPlan",
    "FaultSpans",
    "MadeClip",
    "TruthRow",
    "fault_mask",
    "fault_spans",
    "make_clips",
    "plan_clips",
    "read_ground_truth",
    "write_ground_truth",
    "write_tree",
]
