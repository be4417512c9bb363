"""Writes trained models as artefact folders and checks that what was written answers as what was trained."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from app.errors import ModelError
from app.models.artefact import (
    EXPORT_DIFFERENCE,
    EXPORT_TOLERANCE,
    ONNX,
    SKOPS,
    WEIGHTS,
    Inputs,
    ServableModel,
    Target,
    load_estimator,
    onnx_session,
    run_onnx,
    seal,
    to_scores,
)
from app.models.transform import Transform
from app.models.weight_quantization import quantize_weights
from app.spec.models import Quantization, Task

CHECKED_ROWS = 256
INT8_TOLERANCE = 0.1  # probability, or deviations of the label


def save_torch(
    folder: Path,
    module: torch.nn.Module,
    transform: Transform,
    task: Task,
    inputs: Inputs,
    sample: pd.DataFrame,
    metadata: Mapping[str, Any],
    target: Target = Target(),
    quantize: Quantization = "none",
) -> Path:
    """Exports a torch module to ONNX in `folder`, compares both on `sample`, seals.

    The exported network answers within `EXPORT_TOLERANCE` of the trained one, relative to the largest answer. With
    `int8` it is then quantised, and scores may differ by `INT8_TOLERANCE`: whether that is good enough for the use is
    for the gates to say, which judge what is in `folder`.

    Raises:
        ModelError: the module cannot be exported, or the export answers differently. The folder is then no model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    module = module.to("cpu").float().eval()
    numeric, codes = transform.apply(sample.head(CHECKED_ROWS))
    given = (torch.from_numpy(numeric), torch.from_numpy(codes))
    batch = torch.export.Dim("batch", min=1)
    try:
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # warns of torchvision, which nobody asked for
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                given,
                dynamo=True,
                input_names=["numeric", "codes"],
                output_names=["output"],
                dynamic_shapes=({0: batch}, {0: batch}),
                verbose=False,
            )
        assert program is not None
        program.save(folder / ONNX, external_data=False)
    except torch.onnx.errors.OnnxExporterError as error:
        raise ModelError(
            "the torch model cannot be exported to ONNX. Its forward must be traceable by torch.export: no branch or "
            "loop that depends on values, no call that leaves torch. Nothing can be registered of it. "
            f"Torch says: {error}"
        ) from error
    with torch.no_grad():
        expected = module(*given).numpy()
    exported = run_onnx(onnx_session(folder / ONNX), numeric, codes)
    tolerance = EXPORT_TOLERANCE * max(1.0, float(np.abs(expected).max()))
    difference = _check_equal(exported, expected, tolerance, "exported")
    if quantize == "int8":
        quantize_weights(folder / ONNX)
        # In units of the label's deviation for a regression: the scale the network learned.
        small = to_scores(run_onnx(onnx_session(folder / ONNX), numeric, codes), task, Target())
        difference = _check_equal(small, to_scores(expected, task, Target()), INT8_TOLERANCE, "8-bit")
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, folder / WEIGHTS)
    transform.save(folder)
    known = {**metadata, "target": asdict(target), "quantize": quantize, EXPORT_DIFFERENCE: difference}
    seal(folder, "torch", task, inputs, known)
    return folder


def _check_equal(given: np.ndarray, expected: np.ndarray, tolerance: float, what: str) -> float:
    """The largest difference; raises ModelError where it is above the tolerance."""
    difference = float(np.abs(given - expected).max())
    if not difference <= tolerance:
        raise ModelError(
            f"the {what} model differs from the trained one by {difference:g} on {len(expected)} rows; expected at "
            f"most {tolerance:g}. Nothing was written that can be served.",
            difference=difference,
        )
    return difference


def save_estimator(
    folder: Path,
    estimator: Any,
    task: Task,
    inputs: Inputs,
    vocabularies: Mapping[str, list[str]],
    metadata: Mapping[str, Any],
    sample: np.ndarray | None = None,
) -> Path:
    """Writes a fitted scikit-learn estimator with skops and seals; loads it once to see that it can be served.

    `sample` [B, F + C]: rows on which what was written is compared with what was fitted.

    Raises:
        ModelError: it holds types that a server would refuse, or what was written answers differently.
    """
    import skops.io  # brings all of scikit-learn: only estimators need it

    folder.mkdir(parents=True, exist_ok=True)
    skops.io.dump(estimator, folder / SKOPS)
    known = {**metadata, "vocabularies": dict(vocabularies)}
    if sample is not None:
        known[EXPORT_DIFFERENCE] = _estimator_difference(estimator, load_estimator(folder / SKOPS), sample)
    seal(folder, "sklearn", task, inputs, known)
    ServableModel.load(folder)
    return folder


def _estimator_difference(fitted: Any, written: Any, sample: np.ndarray) -> float:
    asked = "predict_proba" if hasattr(fitted, "predict_proba") else "predict"
    return _check_equal(getattr(written, asked)(sample), getattr(fitted, asked)(sample), EXPORT_TOLERANCE, "written")
