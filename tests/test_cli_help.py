"""The command line before any work is done: arguments that don't parse, help, defaults."""

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from diverse3d.cli import main


@pytest.mark.parametrize(
    "arguments",
    [[], ["paint"], ["complete"], ["complete", "x.png"], ["demo", "--bogus"], ["fit", "x", "--out", "y", "-n", "3"]],
)
def test_arguments_that_do_not_parse_exit_with_2(arguments, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err


COMMANDS = [
    "demo",
    "complete",
    "fit",
    "head build",
    "head info",
    "replay",
    "score",
    "interpolate",
    "benchmark",
    "doctor",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_seed_and_quiet(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    printed = capsys.readouterr().out
    assert all(option in printed for option in ("--help", "--seed", "--quiet"))


def test_help_names_every_method_and_region_and_the_true_defaults():
    from diverse3d.cli._commands import Complete, DiversifyOptions, FitOptions
    from diverse3d.cli._complete import diversify_settings, fit_settings
    from diverse3d.diversify import DEFAULT_METHOD, METHODS, DiversifyConfig
    from diverse3d.fit import FitConfig
    from diverse3d.fit._noise import DEFAULT_SIGMA_MM
    from diverse3d.observe import REGIONS

    command = Complete(input=Path("x"), out=Path("y"))
    assert command.method is None
    assert diversify_settings(command) == DiversifyConfig()
    assert fit_settings(command) == FitConfig()
    assert fit_settings(dataclasses.replace(command, solver="sgd")).steps == 2000
    text = inspect.getsource(DiversifyOptions) + inspect.getsource(FitOptions)
    assert all(name in text for name in (*METHODS, *REGIONS, *DEFAULT_SIGMA_MM, f"{DEFAULT_METHOD} if not given"))
    # What is left to the method: the wishes by name, the others by what most have.
    settled = {name: method.settle(DiversifyConfig()) for name, method in METHODS.items() if method.closed_form}
    pools = {name: config.sampling.pool for name, config in settled.items() if config.sampling.pool is not None}
    assert all(pools[name] == (1600 if name.endswith("-cover") else 200) for name in pools)
    scales = {"hybrid": 1.1} | {name: 0.65 for name in pools if name.endswith("-dpp")}
    assert all(config.sampling.contraction == scales.get(name, 1.0) for name, config in settled.items())
    assert "1600 for cover and 200 for the others" in text
    assert "0.65 for diverse, 1.1\n    for hybrid and 1 for the others" in text


def test_help_does_not_wait_for_jax():
    package = Path(__file__).parents[1] / "diverse3d"
    # The package's own __init__ is left out: what counts here is what the command line itself pulls in.
    code = f"""
import sys, types
sys.modules["diverse3d"] = types.ModuleType("diverse3d")
sys.modules["diverse3d"].__path__ = [{str(package)!r}]
from diverse3d.cli import main
sys.exit(main(["complete", "--help"]) or "jax" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
