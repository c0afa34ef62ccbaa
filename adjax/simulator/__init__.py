"""Synthetic slide rails as a data set: a DCASE tree that says where every fault is heard.

The simulator (`adjax.simulator.clips`) gives the fault's own part of a clip. Here that becomes a mask over
frames and mel bands (`fault_mask`), its summary in seconds and bands (`FaultSpans`), and a tree on disk
(`write_tree`) that the rest of adjax reads like any other data:

    <root>/slider/train/normal_id_00_00000000.wav
    <root>/slider/test/normal_id_00_00000000.wav, anomaly_id_00_00000000.wav
    <root>/slider/ground_truth.csv

With domains (`write_domains`) each machine is heard in other conditions (`Condition`), few of them in the training:

    <root>/slider/train/section_00_{source,target}_train_normal_0000_<attributes>.wav
    <root>/slider/test/section_00_{source,target}_test_{normal,anomaly}_0000_<attributes>.wav
    <root>/slider/ground_truth.csv, attributes_00.csv

The same counts, SNR, shift and seed give the same files, bit for bit, on one machine.
"""

from adjax.simulator.conditions import Condition, make_conditions
from adjax.simulator.plans import (
    FULL,
    FULL_DOMAINS,
    SEVERITIES,
    SMALL,
    SMALL_DOMAINS,
    ClipCounts,
    ClipPlan,
    DomainCounts,
    plan_clips,
    plan_domains,
)
from adjax.simulator.tree import MadeClip, make_clips, write_domains, write_tree
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
    write_attributes,
    write_ground_truth,
)

__all__ = [
    "FULL",
    "FULL_DOMAINS",
    "GROUND_TRUTH",
    "HOP_LENGTH",
    "MASK_THRESHOLD_DB",
    "N_FFT",
    "N_MELS",
    "SEVERITIES",
    "SMALL",
    "SMALL_DOMAINS",
    "ClipCounts",
    "ClipPlan",
    "Condition",
    "DomainCounts",
    "FaultSpans",
    "MadeClip",
    "TruthRow",
    "fault_mask",
    "fault_spans",
    "make_clips",
    "make_conditions",
    "plan_clips",
    "plan_domains",
    "read_ground_truth",
    "write_attributes",
    "write_domains",
    "write_ground_truth",
    "write_tree",
]
