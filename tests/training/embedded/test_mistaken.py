"""What the model takes photographs for, told by its own answers."""

from dataclasses import replace

import pytest
import torch

from training.embedded import mistaken as module
from training.embedded.mistaken import TIMES, mistaken
from training.photo_vqa.phrases import load_phrases
from training.photo_vqa.questions import answers_that_name
from training.photo_vqa.scenes import Scene, Seen, alone, photographs
from training.photo_vqa.things import load_names


class Session:
    """Answers in the language of the question: in turn what `says` tells, "" for what is no name."""

    def __init__(self, says):
        self.says, self.asked = says, []

    def answers(self, conversations, options, *, features_IND):
        assert len(features_IND) == len(conversations)
        return [self.answer(conversation) for conversation in conversations]

    def answer(self, conversation):
        thing = self.says[len(self.asked) % len(self.says)]
        language = self.languages[len(self.asked)]
        self.asked.append(conversation)
        return load_phrases(language).named(load_names(language)[thing]) if thing else "?"


class Unseeing:
    """Scenes of which the tower saw nothing."""

    def __init__(self, scenes):
        self.scenes = scenes

    def __len__(self):
        return len(self.scenes)

    def features(self, number):
        return torch.zeros(2, 3)


@pytest.fixture
def scenes(folders) -> list[Scene]:
    return [alone(one) for one in photographs(folders / "caltech", None, "calibration") if one.things][:3]


@pytest.fixture
def told(tmp_path, scenes, monkeypatch):
    """A function: what three photographs of cats are taken for by a model that answers so."""
    cats = [replace(scene, things=(Seen(thing="cat"),)) for scene in scenes]

    def told_by(*says):
        session = Session(says)
        session.languages = []
        questions = module._questions

        def noted(number, scene):
            made = questions(number, scene)
            session.languages += [question.language for question in made]
            return made

        monkeypatch.setattr(module, "_questions", noted)
        file = tmp_path / "mistaken.json"
        seen = Unseeing(cats)
        found = mistaken(session, seen, file)
        monkeypatch.setattr(module, "_questions", questions)
        assert len(session.asked) == TIMES * len(cats)
        assert mistaken(None, seen, file) == found  # nobody is asked again
        file.unlink()
        return found

    return told_by


def test_what_most_answers_name_is_what_a_photograph_is_taken_for(told, scenes):
    assert len(scenes) == 3
    assert told("dog", "cat", "dog") == dict.fromkeys(range(3), "dog")
    assert told("cat", "cat", "dog") == {}
    assert told("", "dog", "") == dict.fromkeys(range(3), "dog")
    assert told("", "", "") == {}


def test_each_photograph_is_asked_about_in_other_languages(scenes):
    languages = {
        question.language for number in range(40) for question in module._questions(number, scenes[0]) if question
    }
    assert len(languages) == 10
    assert len({question.language for question in module._questions(1, scenes[0])}) == TIMES


def test_a_thing_is_known_by_any_of_its_names():
    assert answers_that_name("fr")["chat"] == answers_that_name("fr")["minou"] == "cat"
    assert answers_that_name("hi")[load_names("hi")["piano"]["name"]] == "piano"
