"""Files that appear whole or not at all."""

from meshvae._files import clear_leftovers as clear_leftovers
from meshvae._files import whole_file as whole_file
