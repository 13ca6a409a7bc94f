"""The page that export.py writes around a tiny model, served to a real browser.

A test module asks for them with `pytest_plugins = ["export_fixtures", "web_fixtures"]`. Without
LiteRT.js or Chromium its tests are skipped.
"""

import os
import pathlib
import shutil

import pytest
from chromium import Browser, chromium_path
from page_driver import open_page, served

from neo_keras.errors import InputError
from neo_keras.export import web


@pytest.fixture(scope="session")
def runtime():
    """Path of LiteRT.js."""
    try:
        return web.check_installed()
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def exported_page(runtime, page_tflite, tmp_path_factory):
    """Directory of the page, with a float32 model."""
    page = tmp_path_factory.mktemp("web") / "web"
    page.mkdir()
    web.write_page_around(pathlib.Path(shutil.copy(page_tflite, page)))
    return page


@pytest.fixture(scope="session")
def chromium():
    """For tests that start a `Browser` of their own."""
    if chromium_path() is None:
        pytest.skip("the tests of the web page need chromium: apt-get install chromium")


@pytest.fixture(scope="session")
def browser(chromium):
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def page_url(exported_page):
    with served(exported_page) as url:
        yield url


@pytest.fixture
def page(browser, page_url):
    """The page, ready to write."""
    page = open_page(browser, page_url)
    yield page
    page.close()


@pytest.fixture
def own_page(exported_page, tmp_path):
    """Directory of a copy of the page, whose files a test may replace with `replace`."""
    return shutil.copytree(exported_page, tmp_path / "page", copy_function=os.link)
