"""An export replaces an earlier one, and nothing else that a person has in the same place."""

from neo_keras.atomic_files import parse_json
from neo_keras.errors import InputError

REPORT, CARD = "report.json", "README.md"


def check_replaceable(paths):
    """Raises `InputError` where something stands that `export.py` did not write.

    Args:
        paths: `pathlib.Path` of each file and directory that is to be written.
    """
    for path in paths:
        if path.exists() and not _is_export(path):
            raise InputError(
                f"{path} was not written by export.py, which would replace it: move it away, or "
                "choose another --out"
            )


def _is_export(path):
    try:
        if path.is_dir():
            return not any(path.iterdir()) or _is_model_directory(path)
        if path.name == CARD:
            with open(path, encoding="utf-8") as file:
                return file.readline().endswith("trained with neo_keras\n")
        if path.name == REPORT:
            return all("file" in row for row in parse_json(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    return True  # nobody else has a file of such a name


def _is_model_directory(path):
    configs = (path / "config.json", path / "assets.extra" / "config.json")  # page, SavedModel
    found = [parse_json(config.read_text("utf-8")) for config in configs if config.is_file()]
    return any(config["format"].startswith("neo_keras model") for config in found)
