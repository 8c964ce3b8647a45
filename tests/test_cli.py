"""The command line as a new user meets it: real models, real files, exit codes and printed words."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from portrait.cli.main import build_parser, main
from portrait.images import read_photo

FAST = ["--num-inference-steps", "4"]


@pytest.fixture(scope="module")
def done(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One real run in two styles, on a JPEG with GPS coordinates and a camera's name."""
    folder = tmp_path_factory.mktemp("run")
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 29.0)
    Image.open(photos / "astronaut.png").save(folder / "eileen.jpg", quality=97, exif=exif)
    main(
        ["stylize", str(folder / "eileen.jpg"), "--style", "watercolor", "--style", "comic", "-o", str(folder / "out")]
    )
    return folder


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted((folder / "out").glob("*.json"))]


@pytest.mark.parametrize(
    "command", [[], ["stylize"], ["demo"], ["compare"], ["calibrate"], ["campaign", "run"], ["studio"]]
)
def test_help_loads_nothing_but_the_standard_library_and_numpy(command: list[str]) -> None:
    """It is fast because of what it does not import; a clock would measure how busy the machine is."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "from portrait.cli.main import main\n"
        "try: main([*sys.argv[1:], '--help'])\n"
        "finally: print(*set(sys.modules) - before, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    loaded = result.stderr.split()
    others = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert result.stdout.startswith("usage: portrait")
    assert others == {"portrait", "numpy"}
    assert len(loaded) < 300, len(loaded)


def test_fetching_weights_loads_no_library_for_pictures() -> None:
    """An image for a server is built in steps; the one that fetches weights may lack what OpenCV and Pillow link to."""
    code = "import sys, portrait.cli.weights; print(*{name.partition('.')[0] for name in sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "portrait" in result.stdout.split()
    assert not {"cv2", "PIL", "pillow_heif", "onnxruntime", "torch"} & set(result.stdout.split())


def test_help_teaches_by_example() -> None:
    parser = build_parser()
    text = parser.format_help()
    assert "portrait stylize anna.jpg --style watercolor -o out/" in text
    assert "exit codes" in text


@pytest.mark.weights
def test_pictures_records_before_after_and_sheet_are_written(done: Path) -> None:
    names = {p.name for p in (done / "out").iterdir()}
    assert "contact-sheet.jpg" in names
    for style in ("watercolor", "comic"):
        assert {f"eileen-{style}-1-before-after.jpg", f"eileen-{style}-1-rejected-before-after.jpg"} & names
        assert {f"eileen-{style}-1.png", f"eileen-{style}-1-rejected.png"} & names
    for record in records(done):
        picture = Image.open(record["output"])
        assert list(picture.size) == record["size"] == [512, 512]
        assert record["input"]["path"].endswith("eileen.jpg")
        assert set(record["thresholds"]) == {"arcface", "dlib"}
        assert record["weights"]["w600k_mbf"].startswith("9cc6e4a7")
        assert any(part["commercial"] == "no" for part in record["licenses"])
        for attempt in record["attempts"]:
            assert -1 <= attempt["similarity"]["arcface"] <= 1


def test_nothing_of_the_photos_metadata_leaks(done: Path) -> None:
    for path in (done / "out").iterdir():
        data = path.read_bytes()
        assert b"SecretCamera" not in data
        if path.suffix in (".png", ".jpg"):
            assert not Image.open(path).getexif().get_ifd(0x8825)


def test_the_parameters_text_is_there(done: Path) -> None:
    record = records(done)[0]
    text = Image.open(record["output"]).info["parameters"]
    assert text.startswith(record["prompt"])
    assert f"Steps: {record['attempts'][record['chosen']]['knobs']['num_inference_steps']}" in text
    assert f"Seed: {record['seed']}" in text


@pytest.mark.weights
def test_a_record_replays_to_the_identical_picture(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted((done / "out").glob("*.json"))
    assert files
    for path in files:
        assert main(["replay", str(path), "--files", str(done), "-o", str(done / f"again-{path.stem}.png")]) == 0
        assert "identical, pixel for pixel" in capsys.readouterr().out
        again = read_photo(done / f"again-{path.stem}.png").pixels
        np.testing.assert_array_equal(again, read_photo(json.loads(path.read_text())["output"]).pixels)


@pytest.mark.weights
def test_a_record_names_its_runtime_and_graphs_and_replay_says_what_differs(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = records(done)[0]
    assert record["runtime"] == "onnxruntime"
    assert "onnx/unet.onnx" in record["weights"]
    assert record["versions"]["numpy"] == np.__version__
    del record["runtime"]  # as written before mini ran in onnxruntime
    del record["versions"]["numpy"]
    record["picture"]["pixels_sha256"] = "0" * 64
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps(record))
    assert main(["replay", str(earlier), "--files", str(done)]) == 1
    assert "not identical (runtime torch then, onnxruntime now)" in capsys.readouterr().out


def test_replay_refuses_another_photo_other_weights_and_what_is_no_record(
    done: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sorted((done / "out").glob("*.json"))[0]
    assert main(["replay", str(path), "--photo", str(photos / "t1.png")]) == 2
    assert "is not the photo of the record" in capsys.readouterr().err
    record = json.loads(path.read_text())
    record["weights"]["w600k_mbf"] = "0" * 64
    (done / "tampered.json").write_text(json.dumps(record))
    assert main(["replay", str(done / "tampered.json")]) == 2
    assert "weights differ from those of the record" in capsys.readouterr().err
    (done / "no.json").write_text("[1]")
    assert main(["replay", str(done / "no.json")]) == 2
    assert "is not a record of portrait" in capsys.readouterr().err


@pytest.mark.weights
def test_bad_photos_are_one_line_each_and_the_good_one_is_made(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "renamed.png").write_text("not a picture")
    bad = [str(tmp_path / n) for n in ("empty.jpg", "renamed.png", "missing.jpg")]
    code = main(["stylize", *bad, str(photos / "astronaut.png"), "-o", str(tmp_path / "out"), "--json", *FAST])
    captured = capsys.readouterr()
    assert code == 2
    assert len([line for line in captured.err.splitlines() if line.startswith("portrait: ")]) == 3
    printed = [json.loads(line) for line in captured.out.splitlines()]
    assert [r["status"] == "failed" for r in printed] == [True, True, True, False]
    assert Path(printed[-1]["output"]).is_file()


@pytest.mark.weights
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("t1", "6 faces of similar size"),
        ("chelsea", "no face found in"),
        ("coffee", "no face found in"),
    ],
)
def test_a_photo_that_allows_no_choice_is_refused_clearly(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, says: str
) -> None:
    assert main(["stylize", str(photos / f"{name}.png"), "-o", str(tmp_path)]) == 1
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.weights
def test_an_impossible_threshold_ends_in_a_marked_rejection(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recognizers = {n: {"thresholds": {"0.01": 0.9999}} for n in ("arcface", "dlib")}
    style = {"recognisers": recognizers, "style_on_face": {"limit": 0.0}}
    limits = tmp_path / "limits.json"
    limits.write_text(json.dumps({"styles": {"oil": style}, "burned": {"limit": 1.0}}))
    argv = ["stylize", str(photos / "astronaut.png"), "--style", "oil", "--max-attempts", "2", *FAST]
    assert main([*argv, "--thresholds", str(limits), "-o", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().out
    assert "rejected" in printed
    table_row = next(line for line in printed.splitlines() if line.startswith("oil"))
    assert "astronaut-oil-1-rejected.png" in table_row  # whole file names, however narrow the terminal
    assert "does not look enough like the person" in printed
    assert (tmp_path / "out" / "astronaut-oil-1-rejected.png").is_file()
    record = json.loads((tmp_path / "out" / "astronaut-oil-1-rejected.json").read_text())
    assert record["status"] == "rejected"
    assert len(record["attempts"]) == 2


@pytest.mark.weights
def test_of_two_photos_the_refused_one_does_not_stop_the_other(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [str(photos / "t1.png"), str(photos / "astronaut.png")]
    code = main(["stylize", *both, "--style", "sketch", "-o", str(tmp_path), "--json", "--max-attempts", "1", *FAST])
    captured = capsys.readouterr()
    assert code == 1
    assert "6 faces of similar size" in captured.err
    assert [json.loads(line)["status"] == "failed" for line in captured.out.splitlines()] == [True, False]


@pytest.mark.weights
def test_photos_of_one_name_do_not_overwrite_each_other(photos: Path, tmp_path: Path) -> None:
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(str(tmp_path / folder / "anna[bold].png"))  # also no markup, and no pattern
        Image.open(photos / "astronaut.png").save(paths[-1])
    out = tmp_path / "out"
    main(["stylize", *paths, "--style", "sketch", "-o", str(out), "--quiet", "--max-attempts", "1", *FAST])
    assert len(list(out.glob("*.json"))) == 2


@pytest.mark.weights
def test_full_is_set_back_into_the_photo(photos: Path, tmp_path: Path) -> None:
    argv = ["stylize", str(photos / "t1.png"), "--face", "0", "--frame", "full", "--format", "jpg", "--style", "oil"]
    main([*argv, "-o", str(tmp_path), "--quiet", "--max-attempts", "1", *FAST])
    (path,) = [p for p in tmp_path.glob("*.jpg") if "before" not in p.name and "sheet" not in p.name]
    portrait_pixels, photo = read_photo(path).pixels.astype(int), read_photo(photos / "t1.png").pixels.astype(int)
    assert portrait_pixels.shape == photo.shape
    left, top, side = json.loads(path.with_suffix(".json").read_text())["box"]
    outside = np.ones(photo.shape[:2], bool)
    outside[top : top + side, left : left + side] = False
    assert np.abs(portrait_pixels - photo)[outside].mean() < 3  # JPEG alone
    assert np.abs(portrait_pixels - photo)[~outside].mean() > 8


@pytest.mark.weights
def test_quiet_prints_nothing(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["stylize", str(photos / "astronaut.png"), "-o", str(tmp_path), "--quiet", "--max-attempts", "1", *FAST])
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.weights
def test_faces_lists_and_draws(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faces", str(photos / "t1.png"), "--draw", str(tmp_path / "faces.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "6 face(s)" in lines[0]
    assert lines.pop() == f"drawn: {tmp_path / 'faces.png'}"
    drawn = read_photo(tmp_path / "faces.png").pixels
    assert (drawn != read_photo(photos / "t1.png").pixels).any()
    assert [line.split(":")[0].strip() for line in lines[1:]] == list("012345")
    drawing = tmp_path / "own.png"
    drawing.write_bytes(photo := (photos / "astronaut.png").read_bytes())
    assert main(["faces", str(drawing), "--draw", str(drawing)]) == 0
    assert f"drawn: {tmp_path / 'own-2.png'}" in capsys.readouterr().out
    assert drawing.read_bytes() == photo
    assert main(["faces", str(photos / "coffee.png"), "--json", "--draw", str(drawing)]) == 1
    entry = json.loads(capsys.readouterr().out)
    assert entry["faces"] == []
    assert entry["drawn"] == str(tmp_path / "own-3.png")


@pytest.mark.weights
def test_faces_says_which_faces_stylize_refuses(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "far.png"
    with Image.open(photos / "astronaut.png") as near:
        small = near.convert("RGB").resize((64, 64))
    far = Image.new("RGB", (256, 256), "gray")
    far.paste(small, (96, 96))
    far.save(photo)
    assert main(["faces", str(photo)]) == 0
    (line,) = capsys.readouterr().out.splitlines()[1:]
    told = re.search(r"size (\d+) px .*refused by stylize: (the face in .*far.png is \1 px; below 14 px .*)", line)
    assert told is not None
    assert main(["faces", str(photo), str(photos / "astronaut.png"), "--json"]) == 0
    refused, usable = (json.loads(line)["faces"][0] for line in capsys.readouterr().out.splitlines())
    assert refused["refused"] == told[2]
    assert "refused" not in usable
    assert main(["stylize", str(photo), "-o", str(tmp_path), *FAST]) != 0
    assert told[2] in capsys.readouterr().err


@pytest.mark.weights
def test_compare_decides_by_both_judges(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flipped = tmp_path / "flipped.png"
    Image.open(photos / "astronaut.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(flipped)
    assert main(["compare", str(photos / "astronaut.png"), str(flipped), "--json"]) == 0
    same = json.loads(capsys.readouterr().out)
    assert same["decision"] == "same person"
    assert set(same["similarity"]) == {"arcface", "dlib"}
    assert main(["compare", str(photos / "astronaut.png"), str(photos / "t1.png")]) == 1
    assert "not the same person" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--style", "watercolour"], "did you mean watercolor"),
        (["--balance", "2"], "balance 2.0 is outside 0 to 1"),
        (["--recipe", "sd99"], "no recipe 'sd99'"),
        (["--face", "biggest"], "--face 'biggest' is not one of"),
        (["--far", "0.0001"], "FAR 0.0001 is not calibrated"),
    ],
)
def test_wrong_settings_are_one_line_and_exit_two(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    assert main(["stylize", str(photos / "astronaut.png"), "-o", str(tmp_path / "out"), *argv]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert len(captured.err.splitlines()) == 1
