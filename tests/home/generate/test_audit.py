"""The audit finds what two datasets share, in any format."""

import json
from pathlib import Path

from hatrain.home.generate.audit import audit


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def conversation(system: str, user: str, answer: str) -> dict:
    return {
        "conversations": [
            {"from": "system", "value": system},
            {"from": "human", "value": user},
            {"from": "gpt", "value": answer},
        ]
    }


def test_requests_names_and_answers_are_compared_without_case_marks_and_calls(tmp_path: Path) -> None:
    call = '\n```homeassistant\n{"service": "light.turn_on", "target_device": "light.%s"}\n```'
    one = write(
        tmp_path / "a.jsonl",
        conversation("Devices:\nlight.a 'Hall Lamp' = on", "Turn on the lamp!", "Lamp on." + call % "a"),
        conversation("Devices:\nlight.b 'Attic' = on", "something else", "No."),
    )
    other = write(
        tmp_path / "b.jsonl",
        conversation("Devices:\nlight.x 'hall lamp' = off", "turn on the lamp", "lamp on" + call % "x"),
        conversation("Devices:\nlight.c 'Cellar' = off", "only here", "Not this."),
        conversation("Devices:\nlight.c 'Cellar' = off", "turn on the lamp", "Not that."),
    )
    requests, names, answers = audit(one, other).overlaps
    assert (requests.shared, requests.distinct, round(requests.share, 2)) == (("turn on the lamp",), 2, 0.67)
    assert (names.shared, names.distinct) == (("hall lamp",), 2)
    assert (answers.shared, answers.distinct) == (("lamp on",), 3)


def test_formats_may_differ_and_a_prompt_in_the_users_message_is_no_request(tmp_path: Path) -> None:
    prompt = "You are Al.\nDevices:\nlight.a 'Hall Lamp' = on"
    parts = [{"type": "text", "text": f"{prompt}\nUser instruction:\nlights on"}]
    one = write(
        tmp_path / "a.jsonl",
        {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "Fine."}]},
    )
    raw = f"<|im_start|>system\n{prompt}<|im_end|>\n<|im_start|>user\nLights on<|im_end|>\n"
    other = write(tmp_path / "b.jsonl", {"text": f"{raw}<|im_start|>assistant\nfine<|im_end|>\n"})
    assert [overlap.shared for overlap in audit(one, other).overlaps] == [
        ("lights on",),
        ("hall lamp",),
        ("fine",),
    ]
