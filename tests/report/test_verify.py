"""What verdicts say that no small model shows."""

from vbuild.attest.verify import FileVerdict, TreeVerdict
from vbuild.build.materials import InputVerdict
from vbuild.commands.verify import InputsVerdict
from vbuild.errors import InvalidInput, Mismatch, Unavailable
from vbuild.report.lines import render
from vbuild.report.verify import (
    details,
    inputs_document,
    inputs_lines,
    inputs_status,
    tree_document,
    tree_lines,
    tree_status,
)


def text(lines):
    return [render(line) for line in lines]


def test_a_verdict_names_all_signers_and_what_is_not_covered():
    file = FileVerdict("a", "OK", "00", "00")
    verdict = TreeVerdict(
        (file,), True, name="m", fingerprints=("f1", "f2"), not_covered=(".git/x",)
    )
    assert text(tree_lines(verdict)) == [
        "a: OK",
        "PASSED: m, 1 file, signed by f1 and f2; 1 file not covered by the signature",
    ]
    assert text(tree_lines(verdict, problems_only=True)) == []


def test_a_problem_is_the_verdict_and_decides_the_status():
    for problem, status in ((Mismatch("c", "no"), 1), (InvalidInput("c", "bad"), 2)):
        verdict = TreeVerdict((), False, problem=problem)
        assert text(tree_lines(verdict)) == [f"FAILED: {problem.message}"]
        assert tree_status(verdict) == status
        assert tree_document("t", verdict)["exit_status"] == status


def test_refused_signatures_are_in_the_document():
    refused = Mismatch("c", "other key")
    verdict = TreeVerdict((), True, name="m", fingerprints=("f",), refused=(refused,))
    (found,) = tree_document("t", verdict)["refused"]
    assert found["message"] == "other key"


def test_only_the_first_files_that_differ_are_explained():
    files = [FileVerdict(f"f{i:03}", "FAILED", "00", "11") for i in range(100)]
    assert text(details(files)) == [f"f{i:03}: expected 00, got 11" for i in range(20)]


def test_what_stands_in_a_files_place_is_said():
    files = [
        FileVerdict("a", "EXTRA", None, "a symbolic link"),
        FileVerdict("b", "FAILED", "00", "a fifo"),
        FileVerdict("c", "MISSING", "00", None),
        FileVerdict("d", "EXTRA", None, None),
        FileVerdict("e", "OK", "00", "00"),
    ]
    assert text(details(files)) == ["a is a symbolic link", "b: expected 00, got a fifo"]


def test_an_input_that_could_not_be_judged_has_a_status_of_its_own():
    missing = InputVerdict("base/x", "00", None, Unavailable("file-missing", "no such file"))
    wrong = InputVerdict("base/y", "00", "11")
    verdict = InputsVerdict("m", (missing, wrong))
    assert text(inputs_lines(verdict)) == [
        "base/x: MISSING",
        "base/y: FAILED",
        "FAILED: inputs of m, 1 failed, 1 missing (of 2 pinned)",
    ]
    assert (inputs_status(verdict), inputs_document("t", verdict)["exit_status"]) == (1, 1)
    assert inputs_status(InputsVerdict("m", (missing,))) == 3
    assert text(details(verdict.inputs)) == ["no such file", "base/y: expected 00, got 11"]
    assert inputs_status(InputsVerdict("m", (wrong,))) == 1
