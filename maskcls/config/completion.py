"""Shell completion of groups, options and keys, for `python -m maskcls.run` and `python -m maskcls predict`.

bash: source <(python -m maskcls.run -sc install=bash)
zsh:  source <(python -m maskcls.run -sc install=zsh)
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from maskcls.core.errors import ConfigError, unknown_message

# Hydra's own scripts only complete `python file.py`. These query its completion for the module on the line.
SCRIPTS = {
    "install=bash": r"""
_maskcls_complete() {
    COMPREPLY=()
    local line=${COMP_LINE:0:$COMP_POINT} word
    local module='maskcls(\.run|[[:space:]]+(run|predict))'
    [[ $line =~ ^[[:space:]]*([^[:space:]]+)[[:space:]]+-m[[:space:]]+($module)[[:space:]] ]] || return
    COMPREPLY=($(COMP_LINE=$line "${BASH_REMATCH[1]}" -m ${BASH_REMATCH[2]} -sc query=bash 2>/dev/null))
    word=${line##*[[:space:]]}
    if [[ $word == *=* && $COMP_WORDBREAKS == *=* ]]; then COMPREPLY=("${COMPREPLY[@]#"${word%=*}="}"); fi
}
complete -o nospace -o default -F _maskcls_complete python python3
""",
    "install=zsh": r"""
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
_maskcls_complete() {
    local -a module replies
    module=(${words[3]})
    [[ ${words[3]} == maskcls ]] && module+=(${words[4]})
    if [[ ${words[2]} == -m && "$module" == (maskcls.run|maskcls\ run|maskcls\ predict) ]]; then
        replies=(${(f)"$(COMP_LINE="${(j: :)words[1,CURRENT]}" ${words[1]} -m $module -sc query=zsh 2>/dev/null)"})
        replies=(${=replies})
        compadd -S '' -- $replies
    elif (( $+functions[_python] )); then _python
    else _default
    fi
}
compdef _maskcls_complete python python3
""",
    "uninstall=bash": "\ncomplete -r python python3; unset -f _maskcls_complete\n",
    "uninstall=zsh": "\ncompdef -d python python3; unfunction _maskcls_complete\n",
}


def print_script(arguments: list[str]) -> bool:
    """Print the script for `install=` or `uninstall=`; return False for the shell's `query=`."""
    if len(arguments) == 1 and arguments[0].startswith("query="):
        return False
    (name,) = arguments if len(arguments) == 1 else ("",)
    if name not in SCRIPTS:
        raise ConfigError(unknown_message("shell completion", name, [*SCRIPTS]))
    print(SCRIPTS[name].strip())
    return True


def set_typed_line(to_hydra: Callable[[list[str]], list[str]]) -> None:
    """Set the command line that Hydra completes: one word for the command, then the overrides in Hydra's form."""
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    start = words.index("-m") + 2 if "-m" in words[:3] else 1
    arguments = words[start + (words[start - 1 : start] == ["maskcls"]) :]  # `maskcls` is followed by a command
    last = arguments.pop() if arguments and not line[-1:].isspace() else ""
    plugins = [argument for argument in arguments if argument.startswith("plugins=")]  # each may register options
    before: list[str] = []
    for argument in arguments:
        with contextlib.suppress(ConfigError):  # skips incomplete and wrong overrides
            before += [] if argument.startswith("-") else to_hydra([argument, *plugins])[:1]
    os.environ["COMP_LINE"] = " ".join(["maskcls", *before, last])
