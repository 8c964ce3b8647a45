"""The command line: one file per command or group of commands, each with `add(commands)` and `run(args)`."""
