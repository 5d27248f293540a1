"""What the README and RESULTS.md say is what was measured."""

from tests.speed import report


def test_the_tables_are_those_of_the_results():
    results = report.load()
    assert results
    assert report.TABLES.read_text("utf-8") == report.all_tables(results)
    assert report.README_TABLE.findall(report.README.read_text("utf-8")) == [report.readme_table(results)]


def test_a_new_measurement_replaces_the_last_of_its_title(tmp_path, monkeypatch, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- speed -->\nold\n<!-- /speed -->\nafter\n", encoding="utf-8")
    for name, file in (("RESULTS", "r.json"), ("TABLES", "r.md")):
        monkeypatch.setattr(report, name, tmp_path / file)
    monkeypatch.setattr(report, "README", readme)
    row = {"what": "a token", "peer": "x", "ours": "1 ms", "theirs": "2 ms", "agreement": "all"}
    for ratio in (2.0, 3.0):
        report.record("Answering, one thread, here", [report.Row(ratio=ratio, **row)], command="c", keep=True)
    report.record("Answering, one thread, here", [report.Row(ratio=9.0, **row)], command="c", keep=False)
    assert "9.00x" in capsys.readouterr().out
    assert readme.read_text("utf-8").endswith("| Answering: a token | x | 3.00 |\n<!-- /speed -->\nafter\n")
    assert "old" not in readme.read_text("utf-8")
    assert "2.00x" not in (tmp_path / "r.md").read_text("utf-8")
