"""Changes of a folder with weights, each a function of it: what damage and hostile hands do."""

import json

from safetensors.numpy import load_file, save_file


def change_json(name, **changes):
    """Of a JSON file; None removes a key."""

    def change(folder):
        config = json.loads((folder / name).read_text())
        for key, value in changes.items():
            config.pop(key, None) if value is None else config.update({key: value})
        (folder / name).write_text(json.dumps(config))

    return change


def change_tensors(name, function):
    """Of a dict of all tensors of a file."""

    def change(folder):
        tensors = load_file(folder / name)
        function(tensors)
        save_file(tensors, folder / name)

    return change
