"""A model: everything between the samples of a clip and the decision, for all machines it was trained on.

`spec` says what runs; `extraction` takes clips to features; `fit` makes a model of normal clips (`folds`, `lanes`,
`calibration`); `score` has the pure functions of one clip (`lift`, `calibration`); `model` is what a person holds,
`keep` puts it in a folder, `api` is all of it in three functions.
"""
