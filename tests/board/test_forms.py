"""The forms of the board against what HTTP takes: a new field gets a place in a form, or its reason here."""

import json
import re
import subprocess
from typing import Any

import msgspec
import pytest

from dtqkit.control.bulk import JobChanges, UpdateRequest
from dtqkit.control.pauses import PauseRequest
from dtqkit.control.queries import JobFilter
from dtqkit.control.schedules import SchedulePause
from dtqkit.dashboard import BOARD
from dtqkit.tasks.options import JobOptions
from tests.node import node_or_skip

#: The request, the modules of its form, and the fields that the form leaves out, each with the reason.
FORMS: dict[str, tuple[type[msgspec.Struct], list[str], dict[str, str]]] = {
    "change a job": (UpdateRequest, ["edit_job"], {}),
    "filter jobs": (
        JobFilter,
        ["listing_tools", "bulk"],
        {"worker": "there is no list of all that there were"},
    ),
    "change many": (
        JobChanges,
        ["bulk"],
        {"delay_s": "rare; `dtqkit update` has it", "tags": "rare; `dtqkit update` has it"},
    ),
    "pause": (PauseRequest, ["pauses"], {"allow_unknown": "the list has lanes and known tasks alone"}),
    "pause a schedule": (SchedulePause, ["schedules"], {}),
}
#: Of a submit; a person presses the button again.
NOT_ASKED = {"wait_s"}


def exported(module: str, name: str) -> Any:
    """What a module of the board exports, as JSON has it."""
    program = f"console.log(JSON.stringify((await import({json.dumps((BOARD / module).as_uri())})).{name}))"
    command = [node_or_skip(), "--no-warnings", "--input-type=module", "-e", program]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def test_the_form_asks_for_each_option_of_a_submit() -> None:
    asked = {name for group in exported("job_options.js", "OPTIONS").values() for name in group}
    assert asked == set(JobOptions.__struct_fields__) - NOT_ASKED


@pytest.mark.parametrize("form", FORMS)
def test_each_field_of_a_request_is_in_its_form_or_left_out_for_a_reason(form: str) -> None:
    request, modules, left_out = FORMS[form]
    text = "".join((BOARD / f"{module}.js").read_text() for module in modules)
    missing = [name for name in request.__struct_fields__ if not re.search(rf"\b{name}\b", text)]
    assert sorted(missing) == sorted(left_out)
