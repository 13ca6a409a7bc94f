"""Runs a notebook as a person runs it, in a kernel of this Python."""

import pathlib
import re
import sys

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from waits import HANG_SECONDS

ROOT = pathlib.Path(__file__).resolve().parent.parent


class ThisPython(AsyncKernelManager):
    """Starts kernels of the running interpreter, whatever kernels are installed."""

    kernel_spec = KernelSpec(
        argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    )


def execute(notebook, directory):
    """Runs all cells in a directory."""
    client = NotebookClient(
        notebook,
        timeout=HANG_SECONDS,  # of a cell
        kernel_manager_class=ThisPython,
        resources={"metadata": {"path": str(directory)}},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # so that the notebook installs nothing
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        client.execute()


def set_parameters(notebook, **values):
    """Gives the variables of the parameters cell other values."""
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    for name, value in values.items():
        cell.source, count = re.subn(
            rf"^{name} = .*$", f"{name} = {value!r}", cell.source, flags=re.MULTILINE
        )
        assert count == 1, name


def text_of(notebook, cell_id):
    (cell,) = [cell for cell in notebook.cells if cell.id == cell_id]
    return "".join(output.get("text", "") for output in cell.outputs)


def check_no_outputs(notebook):
    """A notebook in the repository has none."""
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
