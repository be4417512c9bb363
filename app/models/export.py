"""Writes trained models as artefact folders and checks that what was written answers as what was trained."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import torch

from app.errors import ModelError
from app.models.artefact import EXPORT_TOLERANCE, ONNX, SKOPS, Inputs, ServableModel, Target, run_onnx, seal
from app.models.transform import Transform
from app.spec.models import Task

CHECKED_ROWS = 256


def save_torch(
    folder: Path,
    module: torch.nn.Module,
    transform: Transform,
    task: Task,
    inputs: Inputs,
    sample: pd.DataFrame,
    metadata: Mapping[str, Any],
    target: Target = Target(),
) -> Path:
    """Exports a torch module to ONNX in `folder`, compares both on `sample`, seals.

    Raises:
        ModelError: the module cannot be exported, or the export answers differently.
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
        raise ModelError(f"the torch model cannot be exported to ONNX: {error}") from error
    session = onnxruntime.InferenceSession(str(folder / ONNX), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = module(*given).numpy()
    difference = float(np.abs(run_onnx(session, numeric, codes) - expected).max())
    if not difference <= EXPORT_TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise ModelError(
            f"the exported model differs from the trained one by {difference:g}; expected at most "
            f"{EXPORT_TOLERANCE:g}.",
            difference=difference,
        )
    transform.save(folder)
    seal(folder, "torch", task, inputs, {**metadata, "target": asdict(target)})
    return folder


def save_estimator(
    folder: Path,
    estimator: Any,
    task: Task,
    inputs: Inputs,
    vocabularies: Mapping[str, list[str]],
    metadata: Mapping[str, Any],
) -> Path:
    """Writes a fitted scikit-learn estimator with skops and seals; loads it once to see that it can be served.

    Raises:
        ModelError: it holds types that a server would refuse.
    """
    import skops.io  # brings all of scikit-learn: only estimators need it

    folder.mkdir(parents=True, exist_ok=True)
    skops.io.dump(estimator, folder / SKOPS)
    seal(folder, "sklearn", task, inputs, {**metadata, "vocabularies": dict(vocabularies)})
    ServableModel.load(folder)
    return folder
