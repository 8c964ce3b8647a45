"""The arguments of every command. These files import no library, so that --help answers at once."""
