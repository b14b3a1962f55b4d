# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Debian 12's packages for guests, sourced by demo/fetch and tests/guest/fetch. Nothing is installed on the host and no
# root is needed: apt works in a directory of its own, where the foreign architecture is the native one.

# The host's own mirror of Debian 12 where it has one, so that a local mirror or proxy is used.
apt_sources() {
	local found
	found=$(apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' 2>/dev/null | awk '$2 ~ /^bookworm(-security|-updates)?$/ && $3 == "main"' | sort -u || true)
	if ! grep -q ' bookworm ' <<<"$found"; then
		found="http://deb.debian.org/debian bookworm main
http://deb.debian.org/debian-security bookworm-security main"
	fi
	awk '{ print "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " $1, $2, $3 }' <<<"$found"
}

# apt_do COMMAND [ARGUMENT...]: apt in $apt, for $arch
apt_do() {
	"$1" -q -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o APT::Sandbox::User="$(id -un)" \
		-o Dir::Etc="$apt/etc" -o Dir::State="$apt/state" -o Dir::State::status="$apt/state/status" \
		-o Dir::Cache="$apt/cache" -o Acquire::Languages=none -o Acquire::Retries=3 "${@:2}"
}

# apt_open ARCH DIR: prepares apt in DIR, and learns what there is.
apt_open() {
	arch=$1
	apt=$2
	mkdir -p "$apt/etc/apt.conf.d" "$apt/etc/preferences.d" "$apt/state/lists/partial" "$apt/cache/archives/partial"
	: >"$apt/state/status"
	apt_sources >"$apt/etc/sources.list"
	apt_update
}

# An index that a mirror is just replacing fails alone, and the others may list all that is wanted.
apt_update() {
	rm -rf "$apt/state/lists"
	mkdir -p "$apt/state/lists/partial"
	apt_do apt-get update >"$apt/log" 2>&1 || true
}

# apt_try WHAT COMMAND [ARGUMENT...]: once more and yet once more with new indexes; then says that WHAT was not to be had.
apt_try() {
	local what=$1 pause
	shift
	for pause in 5 20 end; do
		"$@" && return
		[ $pause != end ] || break
		sleep $pause
		apt_update
	done
	grep -E '^(E|W|Err):?' "$apt/log" | sort -u | head -n 5 >&2
	echo "$0: could not get $what ($arch); apt's log is $apt/log. Without a network, or while a mirror is being" \
		"updated, try again later." >&2
	return 1
}

# apt_kernel META: the name of the kernel package that a meta package stands for
apt_kernel() {
	apt_try "$1" apt_find_kernel "$1"
}

apt_find_kernel() {
	apt_do apt-cache depends "$1" 2>>"$apt/log" |
		awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; found = 1; exit } END { exit !found }'
}

# apt_fetch PACKAGE...: the packages' files, in $apt
apt_fetch() {
	apt_try "$*" apt_download "$@"
}

apt_download() {
	(cd "$apt" && rm -f ./*.deb && apt_do apt-get download "$@" >>log 2>&1)
}
