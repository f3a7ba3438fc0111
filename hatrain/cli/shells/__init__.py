"""Shell completion: a script is a generated head, what each verb takes, and a static body."""

from collections.abc import Callable, Sequence

from hatrain.cli.shells import fish, posix
from hatrain.cli.shells.verbs import Verb

SHELLS: dict[str, Callable[[Sequence[Verb]], str]] = {"bash": posix.bash, "zsh": posix.zsh, "fish": fish.fish}
