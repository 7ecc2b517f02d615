# A bash that keeps its variables, functions and folder. It reads what it is to run from its
# standard input, each word ended by NUL: a word that its answers begin with, so that nothing
# else of its tree answers, who lends the streams, the folder, how many variables,
# these, the code. What it says of it goes to its standard output, a line each.
exec 10<&0 11>&1 0</dev/null 1>/dev/null 2>/dev/null
trap - DEBUG ERR RETURN
__stockade_from=
while IFS= builtin read -r -d '' -u 10 __stockade_word; do
  __stockade_secret=$__stockade_word
  IFS= builtin read -r -d '' -u 10 __stockade_lender
  IFS= builtin read -r -d '' -u 10 __stockade_folder
  IFS= builtin read -r -d '' -u 10 __stockade_count
  __stockade_variables=()
  while (( __stockade_count-- > 0 )); do
    IFS= builtin read -r -d '' -u 10 __stockade_word
    __stockade_variables+=("$__stockade_word")
  done
  IFS= builtin read -r -d '' -u 10 __stockade_code
  # The folder stays what the code before made it, unless another one is asked for.
  if [[ $__stockade_folder != "$__stockade_from" ]]; then
    if ! builtin cd -- "$__stockade_folder"; then
      builtin printf '%s nowhere\n' "$__stockade_secret" >&11
      continue
    fi
    __stockade_from=$__stockade_folder
  fi
  __stockade_before=()
  for __stockade_word in "${__stockade_variables[@]+"${__stockade_variables[@]}"}"; do
    __stockade_name=${__stockade_word%%=*}
    [[ -v $__stockade_name ]] && __stockade_before+=("$__stockade_name=${!__stockade_name}")
    builtin export "$__stockade_word"
  done
  until [[ -e /proc/$__stockade_lender/fd/7 ]]; do
    [[ -d /proc/$__stockade_lender ]] || break
  done
  exec 0</proc/$__stockade_lender/fd/0 1>/proc/$__stockade_lender/fd/1 2>/proc/$__stockade_lender/fd/2
  builtin printf '%s entered\n' "$__stockade_secret" >&11
  # What the code starts does not have these two.
  builtin eval "$__stockade_code" 10<&- 11>&-
  __stockade_status=$?
  exec 0</dev/null 1>/dev/null 2>/dev/null
  # What came with the code goes with it, unless the code has made something else of it.
  for __stockade_word in "${__stockade_variables[@]+"${__stockade_variables[@]}"}"; do
    __stockade_name=${__stockade_word%%=*}
    [[ "$__stockade_name=${!__stockade_name-}" == "$__stockade_word" ]] && unset "$__stockade_name"
  done
  for __stockade_word in "${__stockade_before[@]+"${__stockade_before[@]}"}"; do
    __stockade_name=${__stockade_word%%=*}
    [[ -v $__stockade_name ]] || builtin export "$__stockade_word"
  done
  builtin printf '%s ended %d\n' "$__stockade_secret" "$__stockade_status" >&11
done
