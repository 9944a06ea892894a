"""The command line before any work is done: arguments that don't parse, help, defaults."""

import dataclasses
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
    "batch",
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


def test_help_names_every_method_and_region_and_the_true_defaults(capsys):
    from diverse3d._methods import Algorithm2Config, KernelConfig, SamplingConfig
    from diverse3d._names import NOISE_SIGMA_MM
    from diverse3d.cli._complete import Complete
    from diverse3d.diversify import DEFAULT_METHOD, METHODS, DiversifyConfig
    from diverse3d.fit import FitConfig
    from diverse3d.observe import REGIONS

    command = Complete(input=Path("x"), out=Path("y"))
    assert command.method is None
    assert command.config() == DiversifyConfig()
    assert command.fit_config() == FitConfig()
    assert dataclasses.replace(command, solver="sgd").fit_config().steps == 2000
    assert main(["complete", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    options = [field.name for part in (KernelConfig, SamplingConfig) for field in dataclasses.fields(part)]
    options += [f"algorithm2.{field.name}" for field in dataclasses.fields(Algorithm2Config)]
    assert all(f"--{name.replace('_', '-')} " in text for name in options)
    assert all(name in text for name in (*METHODS, *REGIONS, *NOISE_SIGMA_MM, f"{DEFAULT_METHOD} if not given"))
    # What is left to the method: the wishes by name, the others by what most have.
    settled = {name: method.settle(DiversifyConfig()) for name, method in METHODS.items() if method.closed_form}
    pools = {name: config.sampling.pool for name, config in settled.items() if config.sampling.pool is not None}
    assert all(pools[name] == (1600 if name.endswith("-cover") else 200) for name in pools)
    scales = {"hybrid": 1.1} | {name: 0.65 for name in pools if name.endswith("-dpp")}
    assert all(config.sampling.contraction == scales.get(name, 1.0) for name, config in settled.items())
    assert "1600 for cover and 200 for the others" in text
    assert "0.65 for diverse, 1.1 for hybrid and 1 for the others" in text


HEAVY = ("jax", "jaxlib", "numpy", "scipy", "equinox", "trimesh", "matplotlib", "PIL", "rich", "meshvae._public")


@pytest.mark.parametrize(
    "code",
    ["", "main(['--help'])", "main(['complete', '--help'])", "main(['head', 'import', '--help'])", "main(['fit'])"],
    ids=lambda code: code or "import diverse3d",
)
def test_import_and_help_wait_for_nothing_heavy(code):
    lines = ("import sys, diverse3d", "from diverse3d.cli import main" if code else "", code)
    told = f"print('loaded', *(set({HEAVY!r}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", "\n".join((*lines, told))], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded"
