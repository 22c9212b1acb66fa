# fish completion of learnctl, as `learnctl completion fish` prints it.
# In ~/.config/fish/completions/learnctl.fish, or: learnctl completion fish | source
function __learnctl_words
    set -l line (commandline -opc)
    set -l last (commandline -ct | string unescape)
    $line[1] completion words -- $line[2..-1] "$last" 2>/dev/null
end
function __learnctl_files
    __learnctl_words | string match -q :files
end
complete -c learnctl -f -a '(__learnctl_words | string match -v :files)'
complete -c learnctl -n __learnctl_files -F
