# Completion for bash, made by 'evervip generate bash'.
_evervip() {
    local cur=${COMP_WORDS[COMP_CWORD]} words=
    case ${COMP_WORDS[1]} in
        status) words='--json --socket --help' ;;
        reload) words='--socket --pid --help' ;;
        check) words='--config-id --peer --peer-id --strict --silence --format --color --help' ;;
        explain) words='--help' ;;
        fmt) words='--write --check --help' ;;
        convert) words='--to --config-id --help' ;;
        generate) words='--help keywords evervip.conf.5 evervipd.8 evervip.1 config.schema.json status.schema.json bash zsh fish' ;;
        demo) words='--help' ;;
        *) words='status reload check explain fmt convert generate demo --help --version' ;;
    esac
    [ "$COMP_CWORD" -gt 1 ] || words='status reload check explain fmt convert generate demo --help --version'
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "$cur"))
}
complete -o filenames -F _evervip evervip
_evervipd() {
    COMPREPLY=($(compgen -W '--use-file --vrrp --check --no_bfd --all --log-console --log-detail --log-facility --log-file --flush-log-file --no-syslog --umask --dont-release-vrrp --dont-release-ipvs --dont-respawn --dont-fork --dump-conf --pid --vrrp_pid --checkers_pid --address-monitoring --core-dump --all-config --config-id --ignore-sigint --allow-empty --signum --config-test --version --help' -- "${COMP_WORDS[COMP_CWORD]}"))
    [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o filenames -F _evervipd evervipd
