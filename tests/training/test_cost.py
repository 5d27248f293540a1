"""What the paper's way takes: figures that are published stand, README says what the command says."""

import json
import re

import pytest

from training import cost
from training.cost import CostOptions, stage_flops, steps, table


def test_the_readme_says_what_the_command_says() -> None:
    text = cost.README.read_text("utf-8")
    assert text.partition(cost.BEGIN)[2].partition(cost.END)[0] == table(CostOptions())


def test_the_command_of_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    chapter = cost.README.read_text("utf-8").split("## What the paper's way takes\n")[1].split("\n## ")[0]
    [command] = re.findall(r"^    (python -m training.cost .*)$", chapter, re.M)
    assert cost.main(command.split()[3:]) == 0
    assert "400.0 TFLOP/s on each of 8" in capsys.readouterr().out


def test_published_sizes_follow_from_one_another() -> None:
    by_name = {one.name: one for one in steps(CostOptions(), 10.0)}
    assert by_name["run"].size.startswith("3,906,896 texts")
    assert by_name["remove"].reach == "4,404,776 records"
    assert by_name["scan, pictures"].reach == "7,111 toxic; 7,531 in all"
    assert by_name["run"].seconds == 558_128 * 7 / 10
    assert "2,015,000" in by_name["finetune"].size


def test_what_is_computed_for_a_stage_is_what_the_usual_count_gives() -> None:
    """2 a weight and token forwards, 2 back to the input, 2 to the weight that learns; the published decoder."""
    decoder, table_of_words = cost.DECODER, 256_000 * 4096
    samples, words = 1000, 100
    tokens = samples * (255 + words)  # the published model drops the first patch
    assert stage_flops("finetune", samples, words) == pytest.approx(
        tokens * decoder * 6 + samples * words / 2 * table_of_words * 6, rel=0.02
    )
    assert stage_flops("pretrain", samples, words) == pytest.approx(
        tokens * decoder * 4 + samples * words * table_of_words * 4, rel=0.02
    )


def test_a_faster_machine_takes_as_much_less_time_and_more_devices_too(capsys: pytest.CaptureFixture[str]) -> None:
    def hours(*arguments: str) -> float:
        assert cost.main([*arguments, "--texts-a-second", "1e6"]) == 0
        row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| finetune"))
        number, unit = re.search(r"\| ([\d,]+) (days|hours) \|", row).groups()  # type: ignore[union-attr]
        return float(number.replace(",", "")) * {"days": 24, "hours": 1}[unit]

    one = hours("--tflops", "100")
    assert hours("--tflops", "100", "--devices", "4") == pytest.approx(one / 4, rel=0.05)
    assert hours("--tflops", "400") == pytest.approx(one / 4, rel=0.05)


def test_what_cannot_be_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cost.main(["--devices", "0"]) == 2
    assert "--devices is 0" in capsys.readouterr().err


def test_what_was_measured_stands_in_the_records_of_the_measurements() -> None:
    prompt = cost.measured()["prompt"]
    speed = json.loads((cost.README.parents[1] / "tests" / "speed" / "results.json").read_text("utf-8"))
    rows = [row for of in speed.values() for row in of["rows"] if of["command"] == prompt["command"]]
    [read] = [row for row in rows if row["what"].startswith(f"a prompt of {prompt['tokens']}, 8B in NF4")]
    assert read["ours"] == f"{prompt['seconds'] * 1000:.2f} ms"
    pipeline = cost.measured()["pipeline"]
    log = (cost.README.with_name("LOG.md")).read_text("utf-8")
    assert f"`{pipeline['command']}`" in log
    assert f"{pipeline['texts_a_second']} a second of a core" in log
