function _hatrain_no_verb
    test (count (commandline -opc)) -eq 1
end

function _hatrain_verb
    set -l words (commandline -opc)
    test (count $words) -ge 2; and test $words[2] = $argv[1]
end

# Prints the values of a kind, one on a line: those that are always there, and those of this folder.
function _hatrain_candidates
    # A name may be a path as well, which has a slash, or begins with a dot or a tilde.
    if string match -qr '/|^[.~]' -- (commandline -ct)
        __fish_complete_path (commandline -ct)
        return
    end
    _hatrain_named $argv[1]
    switch $argv[1]
        case job
            for file in jobs/*.yaml
                string replace -r '.*/(.*)\.yaml$' '$1' $file
            end
        case cluster
            for file in $HOME/.config/hatrain/clusters/*.yaml
                string replace -r '.*/(.*)\.yaml$' '$1' $file
            end
        case run model
            set -l root runs
            test -n "$HATRAIN_RUNS"; and set root $HATRAIN_RUNS
            for file in $root/*/plan.json $root/*/sweep/*/plan.json $root/*/sweep
                string replace -- $root/ '' $file | string replace -r '/(plan\.json|sweep)$' ''
            end
    end
end
