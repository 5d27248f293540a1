"""An answer and who leaves it: nothing of it comes after what the page shows next."""

import threading

from app.answers import Answers


def test_who_leaves_waits_until_what_is_on_its_way_has_come():
    answers, left = Answers(), threading.Event()
    with answers.begin("visit", "en") as answering:
        with answering.sending() as wanted:
            assert wanted
            leaving = threading.Thread(target=lambda: (answers.leave("visit"), left.set()))
            leaving.start()
            assert not left.wait(0.1)
        assert left.wait(5)
        leaving.join()
        with answering.sending() as wanted:
            assert not wanted


def test_a_question_after_a_stopped_answer_leaves_it():
    answers = Answers()
    with answers.begin("visit", "en") as first:
        with answers.begin("visit", "en") as refused:
            assert refused is None
        answers.stop("visit")
        with answers.begin("visit", "en") as second:
            assert (first.left, second.left) == (True, False)


def test_an_answer_goes_on_in_the_language_that_the_page_has_come_to_speak():
    answers = Answers()
    with answers.begin("visit", "en") as answering:
        assert answers.speak("visit", "ur")
        assert answering.language == "ur"
    assert not answers.speak("visit", "hi")
