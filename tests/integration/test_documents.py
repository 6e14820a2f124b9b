"""What the documents say of the tree and of the programs is there: files, folders, commands, keys of the configuration."""

import fnmatch
import itertools
import os
import pathlib
import re
import subprocess

import pytest
from harness import BUILD, SANITIZED
from world import servers

pytestmark = pytest.mark.skipif(SANITIZED, reason="about words, not memory")

TOP = pathlib.Path(__file__).resolve().parents[2]
SKIP = {".git", "build-world"}
DOCUMENTS = sorted(str(p.relative_to(TOP)) for p in TOP.rglob("*.md")
                   if not any(part in SKIP or part.startswith("build") for part in p.relative_to(TOP).parts))
# What the words stand for, not what lies here: made at run time, or an example's.
NOT_HERE = {"NAME.yaml", "demo/", "policy.yaml", "strict.yaml", "ledger.html", "hayauma.yaml"}
ENDINGS = r"\.(c|h|py|md|build|in|service|supp)$"


def alternatives(word):
    """a/{b,c}.[ch] → a/b.[ch], a/c.[ch]"""
    parts = [p.split(",") for p in re.split(r"[{}]", word)]
    return ["".join(chosen) for chosen in itertools.product(*parts)] if "{" in word else [word]


def tree():
    files = set()
    for folder, folders, names in os.walk(TOP):
        folders[:] = [f for f in folders if f not in SKIP and not f.startswith(("build", "__"))]
        here = pathlib.Path(folder).relative_to(TOP)
        files.update(str(here / n) for n in names)
        files.update(str(here / f) for f in folders)
    return files


def test_files_that_documents_name_are_there():
    files, missing = tree(), []
    for document in DOCUMENTS:
        here = os.path.dirname(document)
        for quoted in re.findall(r"`([^`\n]+)`", (TOP / document).read_text()):
            for word in itertools.chain.from_iterable(alternatives(w.rstrip(",;:.")) for w in quoted.split()):
                if not re.fullmatch(r"[A-Za-z0-9_.][A-Za-z0-9_./*\[\]-]*", word) or word in NOT_HERE:
                    continue
                if not (re.search(ENDINGS, word.replace("[ch]", "c")) or word.endswith("/")) or word.startswith("_"):
                    continue
                places = [os.path.normpath(word), os.path.normpath(os.path.join(here, word))]
                if any(fnmatch.filter(files, place) for place in places):
                    continue
                if not fnmatch.filter(files, f"*/{word.rstrip('/')}"):  # said from where its subject lies
                    missing.append(f"{document}: {word}")
    assert len(DOCUMENTS) > 10 and missing == []


def commands_in(text):
    """What begins with `hayauma `, in `quotes` and in lines of code."""
    code = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^ {4}(?! )(.*)$", text, re.M)
    for part in itertools.chain.from_iterable(re.split(r"[;|]|&&", re.sub(r"\s#.*", "", c)) for c in code):
        if re.match(r"\s*hayauma [a-z]", part):
            yield part.split()[1:]


def test_commands_that_documents_show_are_understood():
    seen = 0
    for document in DOCUMENTS:
        for words in commands_in((TOP / document).read_text()):
            for count in (2, 1):  # "queue list", "status"
                done = subprocess.run([servers.program(BUILD, "hayauma"), "help", *words[:count]], capture_output=True, text=True)
                if done.returncode == 0:
                    break
            assert done.returncode == 0, f"{document}: hayauma {' '.join(words)}"
            for option in (w.split("=")[0] for w in words if w.startswith("--")):
                assert f"{option} " in done.stdout or f"{option}\n" in done.stdout, f"{document}: hayauma {' '.join(words)}"
            seen += 1
    assert seen > 40
