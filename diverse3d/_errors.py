"""The one exception that is meant for people."""

from meshvae._errors import InputError as InputError
