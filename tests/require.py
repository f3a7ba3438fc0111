"""Skipping where a program is missing; where it was promised, in $HATRAIN_REQUIRE, that is a failure."""

import os
import shutil

import pytest


def need(feature: str, *programs: str) -> None:
    """Skip the test when a program that it runs is not installed, or fail it when the feature was promised."""
    absent = [program for program in programs or (feature,) if shutil.which(program) is None]
    if absent:
        cannot(feature, f"not installed: {', '.join(absent)}")


def cannot(feature: str, reason: str) -> None:
    """Skip the test for a reason, or fail it when the feature was promised."""
    promised = [name.strip() for name in os.environ.get("HATRAIN_REQUIRE", "").split(",")]
    if feature in promised:
        pytest.fail(f"HATRAIN_REQUIRE has {feature}, and: {reason}")
    pytest.skip(f"{feature}: {reason}")
