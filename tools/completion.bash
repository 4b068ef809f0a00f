# SPDX-License-Identifier: LGPL-2.1-only OR MIT
#
# Completion of `distworker` for bash: source it, or install it as
# PREFIX/share/bash-completion/completions/distworker.

# Those of the words that begin with $1; more when called again.
_distworker_words()
{
	local found

	mapfile -t found < <(compgen -W "$2" -- "$1")
	COMPREPLY+=("${found[@]}")
}

_distworker_files()
{
	local found

	mapfile -t found < <(compgen -f -- "$1")
	COMPREPLY+=("${found[@]}")
}

_distworker_run()
{
	local current=$1 previous=$2 word

	# Behind -- stands what belongs to the job: files, for all we know.
	for word in "${COMP_WORDS[@]:2:COMP_CWORD-2}"; do
		if [[ $word == -- ]]; then
			_distworker_files "$current"
			return
		fi
	done
	case $previous in
	-l|--level|--levels) _distworker_words "$current" '3 4 5 6' ;;
	-m|--mode) _distworker_words "$current" 'process thread' ;;
	-p|--provider) _distworker_words "$current" 'auto kernel futex' ;;
	--progress) _distworker_words "$current" 'auto bar lines none' ;;
	-t|--tree) _distworker_files "$current" ;;
	-d|--driver)
		_distworker_words "$current" 'sim opencl pto'
		_distworker_files "$current" ;;
	-n|--nodes|-c|--chips|-s|--subs|--depth|--heap|--chip-options|--*timeout|--drain|--idle-seconds)
		;;
	*)
		if [[ $current == -* ]]; then
			_distworker_words "$current" '--level --nodes --chips --subs --driver
				--chip-options --tree --mode --provider --depth --heap --check-declared
				--hosts --listen --key --user --timeout --task-timeout --init-timeout --close-timeout --drain
				--idle-seconds --progress --quiet --json --list --help --usage'
		else
			# The program knows where jobs lie.
			_distworker_words "$current" \
				"$("${COMP_WORDS[0]}" run --list 2>/dev/null | cut -d ' ' -f 1)"
			_distworker_files "$current"
		fi ;;
	esac
}

_distworker_image()
{
	local current=$1 previous=$2

	if ((COMP_CWORD == 2)); then
		_distworker_words "$current" 'sim pto --help'
		return
	fi
	case ${COMP_WORDS[2]}:$current in
	sim:-*) _distworker_words "$current" '--output --compiler --compiler-option --help --usage' ;;
	pto:-*) _distworker_words "$current" '--orchestration --entry --config-entry --signature
			--core --output --help --usage' ;;
	*) [[ $previous == --*entry || $previous == --signature ]] || _distworker_files "$current" ;;
	esac
}

_distworker()
{
	local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}

	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		_distworker_words "$current" 'run list top trace graph info chips image node doctor --help --version'
		return
	fi
	case ${COMP_WORDS[1]} in
	run) _distworker_run "$current" "$previous" ;;
	chips) _distworker_words "$current" 'sim opencl pto --json --chip-options --help --usage' ;;
	image) _distworker_image "$current" "$previous" ;;
	list) _distworker_words "$current" '--json --help --usage' ;;
	top) _distworker_words "$current" '--once --interval --stuck --json --help --usage' ;;
	trace|graph)
		case $previous in
		-o|--output|-r|--read) _distworker_files "$current" ;;
		*)
			_distworker_words "$current" '--output --read --worker --longest'
			_distworker_run "$current" "$previous" ;;
		esac ;;
	node)
		case $previous in
		-k|--key|-o|--objects) _distworker_files "$current" ;;
		*) _distworker_words "$current" '--listen --key --user --sessions --idle-timeout
			--cache --objects --help --usage' ;;
		esac ;;
	info) _distworker_words "$current" '--json --help --usage' ;;
	doctor) _distworker_words "$current" '--json --host --key --user --ssh --timeout --help --usage' ;;
	esac
}

complete -o filenames -F _distworker distworker
