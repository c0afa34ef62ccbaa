# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # A first look at adjax
#
# Sound of three simulated slide rails, features on the accelerator, and **twenty-four mixtures fitted in one
# compiled call**: 3 machines × 8 regularisations. `make notebook` opens this file (with jupytext) in Jupyter.

# %%
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from adjax import FeatureConfig, GmmConfig, GmmHyper, evaluate, make_features, make_gmm
from adjax.batching import map_clips
from adjax.simulator import ClipCounts, make_clips, plan_clips

# %% [markdown]
# ## Clips
# The simulator makes normal and faulty clips, and knows where each fault is heard.

# %%
IDS = ("id_00", "id_02", "id_04")
plans = plan_clips({machine_id: ClipCounts(train=16, test_normal=8, test_anomaly=9) for machine_id in IDS})
clips = list(make_clips(plans))
anomaly = next(clip for clip in clips if clip.plan.fault)
anomaly.plan

# %% [markdown]
# ## Features
# A feature is a pure function of one clip; `map_clips` batches it the way that suits the device.

# %%
features = make_features(FeatureConfig(kind="log-mel"))
samples = jnp.stack([clip.samples for clip in clips])
n_valid = jnp.full(len(clips), samples.shape[1])
log_mels = jax.jit(lambda y, n: map_clips(lambda clip: features(*clip), (y, n)))(samples, n_valid)
log_mels.shape  # clips, frames, mel bands

# %%
figure = Figure(figsize=(9, 3), layout="constrained")
left, right = figure.subplots(1, 2, sharey=True)
where = clips.index(anomaly)
left.imshow(log_mels[where].T, origin="lower", aspect="auto", cmap="magma")
left.set(
    title=f"{anomaly.plan.fault}, severity {anomaly.plan.severity:.2f}", xlabel="frame", ylabel="mel band"
)
right.imshow(anomaly.mask.T, origin="lower", aspect="auto", cmap="gray_r")
right.set(title="where the fault is heard", xlabel="frame")
figure

# %% [markdown]
# ## Twenty-four mixtures in one call
# Static settings (components, covariance type) make a detector; traced ones (the regularisation) are swept.


# %%
def frames_of(machine_id: str, split: str) -> jax.Array:
    chosen = [i for i, c in enumerate(clips) if (c.plan.machine_id, c.plan.split) == (machine_id, split)]
    return log_mels[jnp.array(chosen)]


train = jnp.stack([frames_of(machine_id, "train") for machine_id in IDS])
train = train.reshape(len(IDS), -1, train.shape[-1])  # machines, vectors, features
weight = jnp.ones(train.shape[:2])
reg_covar = jnp.logspace(-4, 3, 8)
detector = make_gmm(GmmConfig(n_components=2, covariance_type="diag"))


@jax.jit
def fit_all(key, x, weight, reg_covar):
    def machine(x, weight):
        return jax.vmap(lambda reg: detector.fit(key, x, weight, GmmHyper(reg_covar=reg)))(reg_covar)

    return jax.vmap(machine)(x, weight)


params, info = fit_all(jax.random.key(0), train, weight, reg_covar)
info.n_steps  # machines, regularisations

# %% [markdown]
# ## How well do they do?
# The mean score of a clip's frames, against labels that no fit has seen. Reading the best column off this table
# would be choosing a setting by test labels: look, but do not report it as a result.

# %%
auc = np.zeros((len(IDS), len(reg_covar)))
score = jax.jit(jax.vmap(detector.score, in_axes=(0, None)))
for i, machine_id in enumerate(IDS):
    test = frames_of(machine_id, "test")
    own = jax.tree.map(lambda leaf, i=i: leaf[i], params)
    values = (
        score(own, test.reshape(-1, test.shape[-1])).reshape(len(reg_covar), *test.shape[:2]).mean(axis=2)
    )
    labels = np.array(
        [bool(c.plan.fault) for c in clips if (c.plan.machine_id, c.plan.split) == (machine_id, "test")]
    )
    auc[i] = [evaluate(labels.astype(int), np.asarray(lane)).auc for lane in values]
np.round(auc, 3)
