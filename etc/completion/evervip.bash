# Completion for bash, made by 'evervip generate bash'.

# What is typed, and the option before it, with or without an equals sign between them.
_evervip_typed() {
    cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    if [ "$cur" = = ]; then
        cur=
    elif [ "$prev" = = ]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
}

# _evervip_offer KIND [WORDS]
_evervip_offer() {
    local head=
    case $1 in
        files)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            ;;
        words) mapfile -t COMPREPLY < <(compgen -W "$2" -- "$cur") ;;
        list)
            [[ $cur != *,* ]] || head=${cur%,*},
            mapfile -t COMPREPLY < <(compgen -P "$head" -W "$2" -- "${cur##*,}")
            ;;
        *) COMPREPLY=() ;;
    esac
}

_evervip() {
    local cur prev
    _evervip_typed
    if [ "$COMP_CWORD" -eq 1 ]; then
        _evervip_offer words 'status peers why metrics reload check explain fmt convert generate demo help --help --version'
        return
    fi
    case ${COMP_WORDS[1]}:$prev in
        status:--socket | status:-s) _evervip_offer files; return ;;
        peers:--socket | peers:-s) _evervip_offer files; return ;;
        why:--socket | why:-s) _evervip_offer files; return ;;
        metrics:--socket | metrics:-s) _evervip_offer files; return ;;
        reload:--socket | reload:-s) _evervip_offer files; return ;;
        reload:--pid | reload:-p) _evervip_offer nothing; return ;;
        check:--config-id | check:-i) _evervip_offer nothing; return ;;
        check:--peer) _evervip_offer files; return ;;
        check:--peer-id) _evervip_offer nothing; return ;;
        check:--silence) _evervip_offer list 'E0101 E0102 E0103 E0104 E0105 E0106 E0107 E0108 E0109 E0110 W0111 E0112 F0113 L0114 W0115 W0116 E0117 W0118 E0201 E0202 E0203 E0204 E0205 E0206 E0207 E0300 E0301 E0302 E0303 E0304 E0305 E0306 E0307 E0308 E0309 W0310 W0311 E0312 E0313 E0314 W0315 E0401 E0402 W0403 E0404 E0405 E0406 E0407 E0408 E0410 W0412 W0413 W0414 W0415 W0416 E0501 W0502 W0503 W0504 W0505 N0506 W0601 W0602 W0603 W0701 W0702 W0703 N0704 L0801 L0802 L0803 L0804 L0805 L0806 L0807 L0808 L0809 L0811 L0812 L0813 L0814 L0815 L0816 L0817 L0818 L0819 L0821 L0822 L0823 L0824'; return ;;
        check:--format) _evervip_offer words 'text json'; return ;;
        check:--color) _evervip_offer words 'auto always never'; return ;;
        convert:--to) _evervip_offer words 'json conf'; return ;;
        convert:--config-id | convert:-i) _evervip_offer nothing; return ;;
    esac
    case ${COMP_WORDS[1]}:$cur in
        status:-*) _evervip_offer words '--json --socket --help' ;;
        status:*) _evervip_offer nothing ;;
        peers:-*) _evervip_offer words '--json --socket --help' ;;
        peers:*) _evervip_offer nothing ;;
        why:-*) _evervip_offer words '--json --socket --help' ;;
        why:*) _evervip_offer nothing ;;
        metrics:-*) _evervip_offer words '--socket --help' ;;
        metrics:*) _evervip_offer nothing ;;
        reload:-*) _evervip_offer words '--socket --pid --help' ;;
        reload:*) _evervip_offer nothing ;;
        check:-*) _evervip_offer words '--config-id --peer --peer-id --strict --silence --format --color --help' ;;
        check:*) _evervip_offer files ;;
        explain:-*) _evervip_offer words '--help' ;;
        explain:*) _evervip_offer words 'E0101 E0102 E0103 E0104 E0105 E0106 E0107 E0108 E0109 E0110 W0111 E0112 F0113 L0114 W0115 W0116 E0117 W0118 E0201 E0202 E0203 E0204 E0205 E0206 E0207 E0300 E0301 E0302 E0303 E0304 E0305 E0306 E0307 E0308 E0309 W0310 W0311 E0312 E0313 E0314 W0315 E0401 E0402 W0403 E0404 E0405 E0406 E0407 E0408 E0410 W0412 W0413 W0414 W0415 W0416 E0501 W0502 W0503 W0504 W0505 N0506 W0601 W0602 W0603 W0701 W0702 W0703 N0704 L0801 L0802 L0803 L0804 L0805 L0806 L0807 L0808 L0809 L0811 L0812 L0813 L0814 L0815 L0816 L0817 L0818 L0819 L0821 L0822 L0823 L0824' ;;
        fmt:-*) _evervip_offer words '--write --check --help' ;;
        fmt:*) _evervip_offer files ;;
        convert:-*) _evervip_offer words '--to --config-id --help' ;;
        convert:*) _evervip_offer files ;;
        generate:-*) _evervip_offer words '--help' ;;
        generate:*) _evervip_offer words 'keywords evervip.conf.5 evervipd.8 evervip.1 config.schema.json status.schema.json peers.schema.json why.schema.json bash zsh fish' ;;
        demo:-*) _evervip_offer words '--help' ;;
        demo:*) _evervip_offer nothing ;;
        help:-*) _evervip_offer words '--help' ;;
        help:*) _evervip_offer words 'status peers why metrics reload check explain fmt convert generate demo help' ;;
    esac
}
complete -F _evervip evervip

_evervipd() {
    local cur prev
    _evervip_typed
    case $prev in
        --use-file | -f) _evervip_offer files; return ;;
        --log-facility | -S) _evervip_offer words 'daemon user local0 local1 local2 local3 local4 local5 local6 local7'; return ;;
        --log-file | -g) _evervip_offer files; return ;;
        --umask | -u) _evervip_offer nothing; return ;;
        --pid | -p) _evervip_offer files; return ;;
        --vrrp_pid | -r) _evervip_offer files; return ;;
        --checkers_pid | -c) _evervip_offer files; return ;;
        --namespace | -s) _evervip_offer words 'STOP RELOAD DATA STATS STATS_CLEAR JSON'; return ;;
        --config-id | -i) _evervip_offer nothing; return ;;
        --signum) _evervip_offer words 'STOP RELOAD DATA STATS STATS_CLEAR JSON'; return ;;
        --config-test | -t) _evervip_offer files; return ;;
    esac
    _evervip_offer words '--use-file --vrrp --check --no_bfd --all --log-console --log-detail --log-facility --log-file --flush-log-file --no-syslog --umask --release-vips --dont-release-vrrp --dont-release-ipvs --dont-respawn --dont-fork --dump-conf --pid --vrrp_pid --checkers_pid --address-monitoring --namespace --core-dump --all-config --config-id --ignore-sigint --allow-empty --signum --config-test --version --help'
}
complete -F _evervipd evervipd
