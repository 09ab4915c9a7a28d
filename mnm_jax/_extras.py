"""What some parts of the package need beyond the core: extras, as `pip install 'mnm_jax[NAME]'` installs them."""

import importlib.util


def require(part: str, extra: str, *modules: str) -> None:
    """Checks that modules are installed, without importing them.

    Args:
      part: what needs them.
      extra: which extra brings them.
      *modules: their names, without a dot.

    Raises:
      ModuleNotFoundError: if some are not, naming them and the extra.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        message = f"{part} needs {', '.join(missing)}: pip install 'mnm_jax[{extra}]'"
        raise ModuleNotFoundError(message, name=missing[0])
