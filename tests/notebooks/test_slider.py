"""The slider of notebook 02 works in a real browser: JupyterLab, headless Chromium.

Needs `chromium` and `chromium-driver` (Debian) and the extra `browser`; run with `-m browser`.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
NAME = "02_fill_the_buffers.ipynb"
PICTURE = ".jupyter-widgets.widget-interact .widget-output img"
PATIENCE = 90                                                       # seconds

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("default")]


@pytest.fixture
def lab(tmp_path):
    """Serve the notebook, its outputs removed, from JupyterLab on loopback; return its address."""
    notebook = json.loads((ROOT / "notebooks" / NAME).read_text(encoding="utf-8"))
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    served, settings = tmp_path / "served", tmp_path / "settings/@jupyterlab/notebook-extension"
    served.mkdir()
    settings.mkdir(parents=True)
    (served / NAME).write_text(json.dumps(notebook), encoding="utf-8")
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folders = {f"JUPYTER{name}_DIR": str(tmp_path / name.lower()) for name in (
        "_CONFIG", "_RUNTIME", "LAB_WORKSPACES")}
    folders["JUPYTERLAB_SETTINGS_DIR"] = str(tmp_path / "settings")
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
             f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=",
             f"--ServerApp.root_dir={served}", "--expose-app-in-browser"],
            stdout=log, stderr=log, env={**os.environ, **folders})
    address = f"http://127.0.0.1:{port}/lab"
    try:
        wait_until(lambda: answers(address), lambda: (tmp_path / "log").read_text()[-2000:])
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture
def browser(tmp_path):
    from selenium import webdriver

    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    assert all(programs.values()), f"install chromium and chromium-driver, found {programs}"
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
                   "--window-size=1300,1000", f"--user-data-dir={tmp_path / 'chromium'}"):
        options.add_argument(option)
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs["chromedriver"]))
    yield driver
    driver.quit()


def answers(address):
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(address, timeout=5).status == 200


def wait_until(true, otherwise):
    """Wait until `true()`; fail with what `otherwise()` says."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.2)


def test_moving_the_slider_redraws_the_buffers(lab, browser):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def picture():                                                  # in one call: it may be redrawn
        return browser.execute_script("return document.querySelector(arguments[0])?.src", PICTURE)

    def text(selector):
        return browser.find_element(By.CSS_SELECTOR, selector).text[-1500:]

    def shows(value):
        wait_until(lambda: text(".widget-readout") == value, lambda: text(".widget-readout"))

    browser.get(f"{lab}/tree/{NAME}")
    wait_until(lambda: browser.execute_script(
        "return window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status")
        == "idle", lambda: text("body"))
    browser.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    wait_until(picture, lambda: text("body"))
    assert text(".widget-readout") == "1.00"
    first = picture()

    slider = browser.find_element(By.CSS_SELECTOR, ".widget-interact .noUi-target")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", slider)
    handle = slider.find_element(By.CSS_SELECTOR, ".noUi-handle")
    ActionChains(browser).drag_and_drop_by_offset(handle, slider.size["width"], 0).perform()
    shows("2.00")                                                   # dragged to the right end
    wait_until(lambda: picture() not in (None, first), lambda: "the picture stayed")
    last = picture()

    handle.send_keys(Keys.ARROW_LEFT)                               # one step back, by keyboard
    shows("1.75")
    wait_until(lambda: picture() not in (None, first, last), lambda: "the picture stayed")

    handle.send_keys(Keys.ARROW_LEFT * 3)                           # and home: the first picture
    shows("1.00")
    wait_until(lambda: picture() == first, lambda: "another picture than at first")
