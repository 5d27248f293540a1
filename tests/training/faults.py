"""What may go wrong while data is translated and filtered, what must happen, and the tests that hold it.

`python -m tests.training.faults` prints the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
# Names of tests without `test_`, by file.
Tests = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """what: goes wrong. must: happen. tests: that hold it."""

    what: str
    must: str
    tests: Tests


FAULTS_FILE, JOURNAL, CHECKS = "translate/test_faults.py", "translate/test_journal.py", "translate/test_checks.py"
TOXICITY = "toxicity/test_toxicity.py"

FAULTS = (
    Fault(
        what="status 429 or 5xx, a connection that is refused or dropped, TLS, DNS",
        must="tried again as long as the server asks, with bounded attempts; then the run ends with a sentence",
        tests={
            FAULTS_FILE: (
                "what_passes_is_tried_again_and_paid_once",
                "the_server_is_left_alone_as_long_as_it_asks",
                "an_endpoint_that_is_gone_ends_the_run_and_costs_nothing",
                "no_connection_ends_the_run_with_a_sentence",
            )
        },
    ),
    Fault(
        what="status 400 to 404; a refusal for the content",
        must="never sent again; what holds for all requests ends the run, what holds for one rejects it",
        tests={
            FAULTS_FILE: (
                "a_refusal_of_everything_ends_the_run_at_once",
                "a_request_that_is_refused_is_not_sent_again",
                "a_text_that_breaks_the_server_is_rejected_and_the_others_are_not",
            )
        },
    ),
    Fault(
        what="a server that hangs, at once or within a reply",
        must="given up in time, and its place is free",
        tests={
            FAULTS_FILE: (
                "what_hangs_is_given_up_and_its_place_is_free",
                "nothing_connects_for_longer_than_it_may",
            )
        },
    ),
    Fault(
        what="a reply that is torn, HTML, empty, cut off, of bad UTF-8, with a key twice",
        must="asked for twice more, then rejected; never half a text",
        tests={FAULTS_FILE: ("a_reply_that_is_none_is_asked_for_again_and_then_rejected",)},
    ),
    Fault(
        what="of a batch, ids that are swapped, missing, repeated or foreign",
        must="only what bears its id is taken",
        tests={
            FAULTS_FILE: ("of_a_batch_only_what_bears_its_id_is_taken",),
            CHECKS: ("any_reply_to_several_texts_is_read_or_unusable",),
        },
    ),
    Fault(
        what="another language, a copy, a refusal, <image> or numbers lost, far too long",
        must="rejected with the reason",
        tests={
            CHECKS: (
                "what_models_do_wrong_is_seen",
                "good_translations_are_taken_and_those_into_another_language_are_not",
                "no_reply_breaks_the_checks",
            )
        },
    ),
    Fault(
        what="kill -9 at any moment (100 in 5,000 texts with -m slow)",
        must="each text once; paid again at most what was in flight",
        tests={
            JOURNAL: (
                "kills_at_any_moment_lose_nothing_and_pay_little_twice",
                "a_kill_while_a_source_is_read_leaves_it_unread",
            )
        },
    ),
    Fault(
        what="a kill while the export is written",
        must="the old file or the new one",
        tests={JOURNAL: ("a_kill_while_it_is_written_leaves_the_old_export_or_the_new",)},
    ),
    Fault(
        what="a source with a torn end",
        must="translated as far as it goes, and the rest when it is mended",
        tests={JOURNAL: ("a_source_that_is_torn_is_translated_as_far_as_it_goes_and_then_the_rest",)},
    ),
    Fault(
        what="ids that meet, or that case or normal form alone tells apart",
        must="found before anything is spent",
        tests={JOURNAL: ("ids_that_meet_are_found_before_anything_is_spent",)},
    ),
    Fault(
        what="NFD, joiners, emoji, lone surrogates, U+0000",
        must="kept, or rejected with a reason; the export is UTF-8",
        tests={
            JOURNAL: (
                "a_record_that_cannot_be_used_is_named_and_the_others_go_on",
                "what_is_said_is_cut_out_and_put_back_as_it_was",
            ),
            CHECKS: (
                "joiners_stay_as_they_are",
                "a_reply_is_in_nfc_and_without_quotes_that_nobody_asked_for",
                "any_text_is_cut_and_put_together_again",
            ),
        },
    ),
    Fault(
        what="two processes in one folder; shards",
        must="the second is refused; shards share no text",
        tests={
            JOURNAL: (
                "only_one_process_works_in_a_folder",
                "the_export_is_the_same_in_whatever_order_and_on_however_many_machines",
                "a_shard_that_cannot_be_is_refused",
            )
        },
    ),
    Fault(
        what="a full disk, a folder that cannot be read or written",
        must="a sentence; goes on, nothing lost",
        tests={
            JOURNAL: ("a_full_disk_stops_the_run_and_loses_nothing", "a_folder_that_cannot_be_read_is_told"),
        },
    ),
    Fault(
        what="a budget",
        must="never exceeded, counted to the token",
        tests={FAULTS_FILE: ("a_budget_is_never_exceeded_and_every_token_is_counted",)},
    ),
    Fault(
        what="the endpoint's key",
        must="in the header and nowhere else",
        tests={FAULTS_FILE: ("the_key_stands_in_the_header_and_nowhere_else",)},
    ),
    Fault(
        what="replies in any order, a tenth of them faulty",
        must="the same export to the byte; nothing lost",
        tests={
            JOURNAL: (
                "the_export_is_the_same_in_whatever_order_and_on_however_many_machines",
                "an_english_export_becomes_nine_languages_with_a_tenth_of_faults",
            )
        },
    ),
    Fault(
        what="100,000 texts, 64 at once (-m slow)",
        must="no more memory or open files at the end",
        tests={
            JOURNAL: ("a_hundred_thousand_texts_take_no_more_memory_at_the_end",),
            "../speed/test_translation.py": ("many_texts_over_http_take_no_more_memory_or_files_at_the_end",),
        },
    ),
    Fault(
        what="a classifier that is absent, fails, or says neither",
        must="unknown, which is never clean; failing on everything ends the scan",
        tests={
            TOXICITY: (
                "unknown_is_never_clean",
                "what_a_classifier_fails_on_is_unknown_and_its_neighbours_are_not",
                "a_classifier_that_fails_on_everything_stops_the_run",
                "a_model_without_the_labels_or_without_its_files_is_refused",
                "a_guard_that_says_neither_says_nothing",
                "an_arbiter_that_says_neither_says_nothing",
            )
        },
    ),
    Fault(
        what="a damaged picture in the data",
        must="named and counted; the scan goes on",
        tests={TOXICITY: ("the_same_ids_leave_every_language_and_every_removal_has_its_reason",)},
    ),
)


def missing() -> list[str]:
    """Tests that the table names and that are not there."""
    return [
        f"{file}::test_{name}"
        for fault in FAULTS
        for file, names in fault.tests.items()
        for name in names
        if f"def test_{name}(" not in (HERE / file).read_text("utf-8")
    ]


def as_table() -> Table:
    table = Table("what goes wrong", "what must happen", "tests", show_lines=True)
    for fault in FAULTS:
        tests = (f"{file}::test_{name}" for file, names in fault.tests.items() for name in names)
        table.add_row(fault.what, fault.must, "\n".join(tests))
    return table


if __name__ == "__main__":
    Console(width=200).print(as_table())
