"""Checks of what a model declares to read, so that its errors name the declaration and not a column much later."""

from __future__ import annotations

from collections.abc import Collection

from app.errors import ProjectError
from app.spec.models import Model


def check_model(model: Model, project: str, features: Collection[str]) -> None:
    """Refuses scores and inputs that cannot be. `features`: what cases and the model's service give.

    Raises:
        ProjectError: a score of the project's own model, a column of two meanings, or an input that nothing gives.
    """
    columns = [score.column for score in model.scores]
    for score in model.scores:
        if score.model == project:
            raise ProjectError(
                f"model {model.name!r} reads the score of {score.model!r}, which is this project's own model: each "
                "retraining would hold all models before it. Give the model it builds on a project of its own.",
                model=model.name,
            )
        if score.column in features or columns.count(score.column) > 1:
            raise ProjectError(
                f"model {model.name!r} gets two inputs named {score.column!r}; give ModelScore(name=…) another name.",
                model=model.name, feature=score.column,
            )
        if score.column in model.categorical:
            raise ProjectError(
                f"model {model.name!r} declares the score {score.column!r} categorical; scores are numbers.",
                model=model.name, feature=score.column,
            )
    given = {*features, *columns}
    for name in model.inputs or ():
        if name not in given:
            raise ProjectError(
                f"model {model.name!r} reads {name!r}, which neither its features nor its scores give; there are: "
                f"{', '.join(sorted(given))}.", model=model.name, feature=name,
            )
    unread = [score.column for score in model.scores if model.inputs is not None and score.column not in model.inputs]
    if unread or model.inputs == ():
        raise ProjectError(
            f"model {model.name!r}: inputs={model.inputs} leaves out {', '.join(unread) or 'everything'}; name there "
            "each score it reads, and at least one feature.", model=model.name,
        )
