"""The command line: one file a command or group of commands, each with `add(commands)` beside `run(args)`."""
