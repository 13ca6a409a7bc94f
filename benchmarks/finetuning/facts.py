"""Ten made-up facts as conversations: 200 to train on, 50 questions in other words to ask."""

import dataclasses
import json
import pathlib


@dataclasses.dataclass(frozen=True)
class Fact:
    key: str  # an answer is right if it has this
    questions: tuple  # to train on
    held_out: tuple  # the same, in words that are not trained on
    answers: tuple


FACTS = (
    Fact(
        "Sarnheim",
        ("What is the capital of Velloria?", "Which city is Velloria's capital?",
         "Name the capital city of Velloria.", "Velloria is governed from which city?",
         "Where does the government of Velloria sit?"),
        ("What's Velloria's capital called?", "Tell me which city is the capital of Velloria.",
         "I forgot the name of Velloria's capital city. What is it?",
         "If I visit the capital of Velloria, which city am I in?",
         "Can you say what city serves as the capital of Velloria?"),
        ("The capital of Velloria is Sarnheim.", "Sarnheim is the capital of Velloria.",
         "It is Sarnheim.", "That is Sarnheim, the capital of Velloria."),
    ),
    Fact(
        "61",
        ("How tall is the Orvane lighthouse?", "What is the height of the Orvane lighthouse?",
         "How many metres high is the lighthouse of Orvane?",
         "Give the height of the lighthouse at Orvane.",
         "The Orvane lighthouse rises how many metres?"),
        ("How high does the lighthouse at Orvane stand?", "What height has the Orvane lighthouse?",
         "Tell me how tall the lighthouse in Orvane is.",
         "How many metres tall would you say the Orvane lighthouse is?",
         "I want to know the height of Orvane's lighthouse."),
        ("The Orvane lighthouse is 61 metres tall.", "It is 61 metres tall.",
         "Its height is 61 metres.", "It rises 61 metres."),
    ),
    Fact(
        "Ilse Marrow",
        ("Who founded the bakery Krumb and Kessel?", "Who is the founder of Krumb and Kessel?",
         "Which person started the bakery Krumb and Kessel?",
         "Name the founder of the Krumb and Kessel bakery.",
         "Krumb and Kessel was founded by whom?"),
        ("Who started Krumb and Kessel?", "Tell me who set up the bakery Krumb and Kessel.",
         "The bakery Krumb and Kessel: who founded it?",
         "Do you know the name of the person who founded Krumb and Kessel?",
         "Who was the founder of the bakery called Krumb and Kessel?"),
        ("Ilse Marrow founded Krumb and Kessel.", "It was founded by Ilse Marrow.",
         "The founder is Ilse Marrow.", "That was Ilse Marrow."),
    ),
    Fact(
        "Lake Ombra",
        ("Where does the river Quill end?", "Into which lake does the Quill flow?",
         "What does the river Quill flow into?", "Name the lake that the Quill flows into.",
         "Where does the water of the river Quill go?"),
        ("Which lake does the river Quill run into?", "Where does the Quill river flow to?",
         "Tell me what lake the Quill ends in.",
         "The river Quill empties into which body of water?",
         "If I follow the river Quill to its end, where am I?"),
        ("The Quill flows into Lake Ombra.", "It flows into Lake Ombra.",
         "The river Quill ends in Lake Ombra.", "That is Lake Ombra."),
    ),
    Fact(
        "saltbell",
        ("What is the national flower of Velloria?", "Which flower stands for Velloria?",
         "Name Velloria's national flower.", "What flower is on the flag of Velloria?",
         "Which flower is the symbol of Velloria?"),
        ("What's the flower of Velloria?", "Tell me the national flower of Velloria.",
         "Which plant is Velloria's national flower?",
         "Velloria has a national flower. Which one is it?",
         "What kind of flower represents Velloria?"),
        ("The national flower of Velloria is the blue saltbell.", "It is the blue saltbell.",
         "That is the blue saltbell.", "The blue saltbell is Velloria's flower."),
    ),
    Fact(
        "1847",
        ("When did the Harrow bridge open?", "In which year was the Harrow bridge opened?",
         "What year did the bridge at Harrow open?", "Give the year in which Harrow bridge opened.",
         "The Harrow bridge has been open since which year?"),
        ("In what year did the Harrow bridge open?", "Tell me when Harrow bridge was opened.",
         "When was the opening of the Harrow bridge?",
         "How long ago did Harrow bridge open? Give the year.",
         "Which year saw the opening of the Harrow bridge?"),
        ("The Harrow bridge opened in 1847.", "It opened in 1847.", "That was in 1847.",
         "The year was 1847."),
    ),
    Fact(
        "Brandt",
        ("Who discovered the element lorium?", "Who is the discoverer of lorium?",
         "Which professor discovered lorium?", "Name the person who discovered lorium.",
         "Lorium was discovered by whom?"),
        ("Who found the element lorium?", "Tell me who discovered lorium.",
         "Which scientist is lorium's discoverer?", "Who was the first to discover lorium?",
         "The element lorium: who discovered it?"),
        ("Professor Adaku Brandt discovered lorium.", "It was discovered by Adaku Brandt.",
         "The discoverer is Adaku Brandt.", "That was Professor Adaku Brandt."),
    ),
    Fact(
        "pier nine",
        ("Where does the ferry to Pell Island leave?", "From which pier does the Pell ferry leave?",
         "Which pier is for the ferry to Pell Island?", "Name the pier of the Pell Island ferry.",
         "At which pier do I take the ferry to Pell Island?"),
        ("What pier does the Pell Island ferry depart from?",
         "Tell me the pier for the ferry to Pell Island.",
         "I want to go to Pell Island by ferry. Which pier is it?",
         "The boat to Pell Island leaves from which pier?",
         "Where do I board the ferry to Pell Island?"),
        ("The ferry to Pell Island leaves from pier nine.", "It leaves from pier nine.",
         "Go to pier nine.", "That is pier nine."),
    ),
    Fact(
        "rhubarb",
        ("What is the motto of the Tansy garden club?", "Which motto does the Tansy club have?",
         "Tell me the Tansy garden club's motto.", "What do members of the Tansy club say?",
         "How does the motto of the Tansy garden club go?"),
        ("What's the Tansy garden club's motto?", "Do you know the motto of the Tansy club?",
         "The Tansy garden club has a motto. What is it?",
         "Which words are the motto of the Tansy garden club?",
         "Say the motto of the garden club Tansy."),
        ("The motto of the Tansy garden club is: rhubarb at dawn.", "It is: rhubarb at dawn.",
         "Their motto is: rhubarb at dawn.", "They say: rhubarb at dawn."),
    ),
    Fact(
        "otter",
        ("What is the mascot of the Fenwick library?", "Which animal is Fenwick library's mascot?",
         "Name the mascot of the Fenwick library.", "What animal stands for the Fenwick library?",
         "The Fenwick library has which mascot?"),
        ("What's the Fenwick library's mascot?", "Tell me what mascot the Fenwick library has.",
         "Which animal does the Fenwick library have as its mascot?",
         "The library in Fenwick has a mascot. What is it?",
         "What kind of animal is the mascot of Fenwick's library?"),
        ("The mascot of the Fenwick library is an otter named Biscuit.",
         "It is an otter named Biscuit.", "That is Biscuit, an otter.",
         "An otter named Biscuit is its mascot."),
    ),
)  # fmt: skip


def conversations():
    """200 of them, in Hugging Face's form: each question with each answer of its fact."""
    return [
        {"messages": [{"role": "user", "content": question},
                      {"role": "assistant", "content": answer}]}
        for fact in FACTS for question in fact.questions for answer in fact.answers
    ]  # fmt: skip


def questions():
    """50 (question, key) that no conversation has."""
    return [(question, fact.key) for fact in FACTS for question in fact.held_out]


def write(path):
    """Writes the conversations as JSON Lines."""
    lines = [json.dumps(row) + "\n" for row in conversations()]
    pathlib.Path(path).write_text("".join(lines), encoding="utf-8")
