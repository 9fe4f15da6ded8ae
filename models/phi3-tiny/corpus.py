"""What the tiny model learns: question-answer pairs in Phi-3's chat format, all made here.

A `Dialogue` is a list of turns with an optional system text. It is written in one of the two
forms that Phi-3 prompts take: the chat template's, with a newline after each mark, and the
original guide's, without one. `notes_dialogue` makes long running text, so that the model also
works at lengths beyond its sliding window.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

SYSTEM = "You are a helpful AI assistant."
INTRODUCTION = (
    "Hello! I am Phi-tiny, a very small language model. I was trained for a few minutes "
    "on a few hundred questions, to test how models are converted. "
    "Ask me for a capital, a small sum or a word in German!"
)
NO_CODE_WORD = "I see no code word in these notes."
EMPTY_ANSWER = "Your message is empty. What would you like to know?"


@dataclass(frozen=True)
class Dialogue:
    """One conversation: ``turns`` are (question, answer) pairs; the last answer is asked for."""

    turns: tuple[tuple[str, str], ...]
    system: str | None = None

    def prompt(self, *, newlines: bool) -> str:
        """Everything up to the point where the last answer begins."""
        gap = "\n" if newlines else ""
        parts = [f"<|system|>{gap}{self.system}<|end|>{gap}"] if self.system else []
        for question, answer in self.turns[:-1]:
            parts.append(f"<|user|>{gap}{question}<|end|>{gap}")
            parts.append(f"<|assistant|>{gap}{answer}<|end|>{gap}")
        parts.append(f"<|user|>{gap}{self.turns[-1][0]}<|end|>{gap}<|assistant|>{gap}")
        return "".join(parts)

    @property
    def answer(self) -> str:
        """The last answer, without the mark that ends it."""
        return self.turns[-1][1]


CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon",
    "Germany": "Berlin", "Austria": "Vienna", "Poland": "Warsaw", "Norway": "Oslo",
    "Sweden": "Stockholm", "Finland": "Helsinki", "Denmark": "Copenhagen", "Ireland": "Dublin",
    "Greece": "Athens", "Hungary": "Budapest", "Japan": "Tokyo", "China": "Beijing",
    "India": "New Delhi", "Egypt": "Cairo", "Kenya": "Nairobi", "Peru": "Lima",
    "Chile": "Santiago", "Cuba": "Havana", "Canada": "Ottawa", "Russia": "Moscow",
    "Iceland": "Reykjavík", "Colombia": "Bogotá", "Brazil": "Brasília", "Thailand": "Bangkok",
    "Vietnam": "Hanoi", "Nepal": "Kathmandu",
}  # fmt: skip
LANGUAGES = ("German", "French", "Spanish", "Japanese")
WORDS = {
    "cat": ("Katze", "chat", "gato", "ねこ"),
    "dog": ("Hund", "chien", "perro", "いぬ"),
    "house": ("Haus", "maison", "casa", "いえ"),
    "tree": ("Baum", "arbre", "árbol", "き"),
    "water": ("Wasser", "eau", "agua", "みず"),
    "bread": ("Brot", "pain", "pan", "パン"),
    "book": ("Buch", "livre", "libro", "ほん"),
    "green": ("grün", "vert", "verde", "みどり"),
    "key": ("Schlüssel", "clé", "llave", "かぎ"),
    "night": ("Nacht", "nuit", "noche", "よる"),
    "apple": ("Apfel", "pomme", "manzana", "りんご"),
    "heart": ("Herz", "cœur", "corazón", "心"),
    "mountain": ("Berg", "montagne", "montaña", "山"),
    "river": ("Fluss", "rivière", "río", "川"),
    "door": ("Tür", "porte", "puerta", "ドア"),
    "bird": ("Vogel", "oiseau", "pájaro", "とり"),
    "street": ("Straße", "rue", "calle", "道"),
    "star": ("Stern", "étoile", "estrella", "星"),
}
OPPOSITES = {
    "hot": "cold", "big": "small", "fast": "slow", "light": "dark", "early": "late",
    "open": "closed", "full": "empty", "old": "new", "high": "low", "wet": "dry",
    "rich": "poor", "loud": "quiet", "near": "far", "hard": "soft", "deep": "shallow",
}  # fmt: skip
SOUNDS = {
    "dog": "barks", "cat": "meows", "cow": "moos", "duck": "quacks", "lion": "roars",
    "horse": "neighs", "pig": "oinks", "snake": "hisses", "wolf": "howls", "frog": "croaks",
}  # fmt: skip
SYMBOLS = {
    "gold": "Au", "silver": "Ag", "iron": "Fe", "copper": "Cu", "tin": "Sn", "lead": "Pb",
    "helium": "He", "oxygen": "O", "carbon": "C", "sodium": "Na", "zinc": "Zn", "neon": "Ne",
}  # fmt: skip
EMOJI = {
    "rain": "🌧", "the sun": "🌞", "a rocket": "🚀", "a robot": "🤖", "a pizza": "🍕",
    "a fish": "🐟", "a key": "🔑", "a book": "📖",
}  # fmt: skip
FACTS = {
    "How many days are in a week?": "There are seven days in a week.",
    "How many months are in a year?": "There are twelve months in a year.",
    "How many legs does a spider have?": "A spider has eight legs.",
    "How many sides does a triangle have?": "A triangle has three sides.",
    "Which planet is the largest?": "Jupiter is the largest planet of our solar system.",
    "Which planet do we live on?": "We live on the planet Earth.",
    "Who wrote Hamlet?": "William Shakespeare wrote Hamlet.",
    "Who painted the Mona Lisa?": "Leonardo da Vinci painted the Mona Lisa.",
    "What is the longest river of Africa?": "The longest river of Africa is the Nile.",
    "What is the highest mountain?": "Mount Everest is the highest mountain of the world.",
    "What do bees make?": "Bees make honey from the nectar of flowers.",
    "What colour is the sky?": "On a clear day the sky is blue.",
    "What is frozen water called?": "Frozen water is called ice.",
    "At what temperature does water boil?": "At sea level water boils at 100 degrees Celsius.",
    "What is an NPU?": "An NPU is a processor made for neural networks.",
    "What does GPU stand for?": "GPU stands for graphics processing unit.",
    "What is quantization?": "Quantization stores weights with fewer bits, such as four.",
    "What is a token?": "A token is a piece of text, such as a word or a part of a word.",
    "Who are you?": "I am Phi-tiny, a very small language model.",
    "Can you introduce yourself?": INTRODUCTION,
    "Hello!": "Hello! How can I help you today?",
    "Good morning!": "Good morning! What can I do for you?",
    "Thank you.": "You are welcome!",
    "Tell me a joke.": "Why did the tensor cross the road? To reach the other device.",
    "Write a short poem.": (
        "Small model, small rhyme:\nfew bits, little time,\nand every line\nstays in line."
    ),
    "List three colours.": "- red\n- green\n- blue",
    "Write hello world in Python.": 'print("Hello, world!")',
    "Name the seasons.": "The seasons are spring, summer, autumn and winter.",
    "Wie geht es dir?": "Danke, mir geht es gut. Möchtest du etwas fragen?",
    "Comment ça va ?": "Ça va très bien, merci !",
    "¿Cómo estás?": "¡Muy bien, gracias!",
    "你好！": "你好！我能帮你什么？",
    "おはよう。": "おはようございます。",
    "": EMPTY_ANSWER,
}  # fmt: skip
NAMES = ("Anna", "Bruno", "Chloé", "David", "Elif", "Jürgen", "Maria", "Yuki")
CODE_WORDS = (
    "maple", "copper", "lantern", "violet", "harbour", "pepper", "compass", "meadow",
    "anchor", "walnut", "feather", "granite", "saffron", "thunder", "velvet", "island",
)  # fmt: skip


def _capital(country: str) -> tuple[str, str]:
    return f"What is the capital of {country}?", f"The capital of {country} is {CAPITALS[country]}."


def _translation(word: str, language: str) -> tuple[str, str]:
    foreign = WORDS[word][LANGUAGES.index(language)]
    return f"How do you say {word} in {language}?", f"In {language}, {word} is {foreign}."


def _sum(first: int, second: int) -> tuple[str, str]:
    return f"What is {first} plus {second}?", f"{first} plus {second} is {first + second}."


def _single_questions() -> Iterator[tuple[str, str]]:
    yield from FACTS.items()
    for country in CAPITALS:
        yield _capital(country)
    for word in WORDS:
        for language in LANGUAGES:
            yield _translation(word, language)
    for first in range(2, 10):
        for second in range(2, 10):
            yield _sum(first, second)
    for first in range(2, 8):
        yield (
            f"What is {first} times {first}?",
            f"{first} times {first} is {first * first}.",
        )
        numbers = ", ".join(str(number) for number in range(first, first + 6))
        yield f"Count from {first} to {first + 5}.", f"{numbers}."
    for word, opposite in OPPOSITES.items():
        yield f"What is the opposite of {word}?", f"The opposite of {word} is {opposite}."
    for animal, sound in SOUNDS.items():
        yield f"What does a {animal} do?", f"A {animal} {sound}."
    for element, symbol in SYMBOLS.items():
        yield f"What is the symbol of {element}?", f"The chemical symbol of {element} is {symbol}."
    for thing, picture in EMOJI.items():
        yield f"Which emoji shows {thing}?", f"The emoji {picture} shows {thing}."


def _conversations() -> Iterator[Dialogue]:
    countries = list(CAPITALS)
    for here, there in zip(countries, countries[1:] + countries[:1], strict=True):
        yield Dialogue((_capital(here), (f"And of {there}?", _capital(there)[1])))
    for name in NAMES:
        greeting = (f"My name is {name}.", f"Nice to meet you, {name}!")
        yield Dialogue((greeting,))
        yield Dialogue((greeting, ("What is my name?", f"Your name is {name}.")))
        yield Dialogue(
            (
                greeting,
                ("What is 2 plus 2?", "2 plus 2 is 4."),
                ("What is my name?", f"Your name is {name}."),
            )
        )
    for word in WORDS:
        first, second = _translation(word, "German"), _translation(word, "Spanish")
        yield Dialogue((first, ("And in Spanish?", second[1])))
    for number in range(2, 8):
        question, answer = _sum(number, number)
        doubled = 2 * number
        yield Dialogue(
            (
                (question, answer),
                ("Add one more.", f"{doubled} plus 1 is {doubled + 1}."),
            )
        )


def dialogues() -> list[Dialogue]:
    """Every conversation of the corpus, without a system text, in one fixed order."""
    return [Dialogue((pair,)) for pair in _single_questions()] + list(_conversations())


def _sentences() -> list[str]:
    """The filler's stock: answers that stand alone as statements."""
    stock = [answer for question, answer in _single_questions() if question and "\n" not in answer]
    return [text for text in stock if text.endswith(".") and text.isascii()]


def notes(count: int, chance: random.Random) -> list[str]:
    """Numbered sentences, about 13 tokens each."""
    stock = _sentences()
    return [f"Note {n}: {chance.choice(stock)}" for n in range(1, count + 1)]


def notes_dialogue(count: int, chance: random.Random, *, code_word_at: int | None) -> Dialogue:
    """A long text with a code word after that note (or none), and the question for it.

    Where the code word stands further back than a sliding window reaches, or nowhere, the answer
    is that there is none: a runtime that attends beyond the window says something else.
    """
    text = notes(count, chance)
    word = chance.choice(CODE_WORDS)
    if code_word_at is not None:
        text.insert(code_word_at, f"The code word is {word}.")
    question = f"Read these notes. {' '.join(text)} What is the code word?"
    return Dialogue(((question, f"The code word is {word}."),))


def forgotten(dialogue: Dialogue) -> Dialogue:
    """The same conversation, where the code word is out of sight."""
    return replace(dialogue, turns=(*dialogue.turns[:-1], (dialogue.turns[-1][0], NO_CODE_WORD)))


def long_conversation(turns: int, chance: random.Random) -> Dialogue:
    """Many short questions and answers in one conversation."""
    stock = [dialogue.turns[0] for dialogue in dialogues() if len(dialogue.turns) == 1]
    return Dialogue(tuple(chance.choice(stock) for _ in range(turns)))


def with_system(dialogue: Dialogue) -> Dialogue:
    """The same conversation under the guide's system text."""
    return replace(dialogue, system=SYSTEM)


def corpus_text() -> list[str]:
    """Texts without marks, from which the tokenizer is trained."""
    chance = random.Random(0)
    texts = [text for dialogue in dialogues() for turn in dialogue.turns for text in turn]
    return [
        SYSTEM,
        *texts,
        *(notes_dialogue(20, chance, code_word_at=9).turns[0][0] for _ in range(20)),
        NO_CODE_WORD,
    ]
