# bash completion of learnctl, as `learnctl completion bash` prints it.
# In ~/.bashrc: source <(learnctl completion bash)
_learnctl() {
    local tab=$'\t' line word cur=${COMP_WORDS[COMP_CWORD]} quote='' files=0
    local -a words=("${COMP_WORDS[@]:1:COMP_CWORD-1}")
    case $cur in [\'\"]*) quote=${cur:0:1} cur=${cur:1} ;; esac
    cur=${cur//\\/}
    COMPREPLY=()
    while IFS= read -r line; do
        word=${line%%"$tab"*}
        if [ "$line" = :files ]; then
            files=1
        elif [ -n "$quote" ]; then
            COMPREPLY+=("$word")
        else
            COMPREPLY+=("$(printf %q "$word")")
        fi
    done < <("${COMP_WORDS[0]}" completion words -- "${words[@]}" "$cur" 2>/dev/null)
    if [ $files = 1 ]; then
        while IFS= read -r word; do
            COMPREPLY+=("$word")
        done < <(compgen -f -- "$cur")
        compopt -o filenames 2>/dev/null
    fi
}
complete -F _learnctl learnctl
