#!/usr/bin/env bash
# Builds build/learnd_VERSION_ARCH.deb from what `make install` installs. Usage: deploy/deb.sh BUILD
# Needs dpkg-dev (dpkg-shlibdeps works out what the programs need).
set -euo pipefail
cd "$(dirname "$0")/.."

build=$1
version=$(sed -n 's/^#define LEARND_VERSION "\(.*\)"/\1/p' daemon/version.h)
arch=$(dpkg --print-architecture)
work=$build/deb
root=$work/root
package=$build/learnd_${version}_$arch.deb

rm -rf "$work"
mkdir -p "$root/DEBIAN" "$work/debian"
make --no-print-directory BUILD="$build" install DESTDIR="$root" PREFIX=/usr SYSCONFDIR=/etc
strip --strip-unneeded "$root/usr/bin/learnd" "$root/usr/bin/learnctl"
find "$root/usr/share/man" -type f -exec gzip -9n {} + 2>/dev/null || true
install -D -m 644 LICENSE "$root/usr/share/doc/learnd/copyright"

printf 'Source: learnd\n\nPackage: learnd\nArchitecture: any\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O root/usr/bin/learnd root/usr/bin/learnctl 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
[ -n "$depends" ] || { echo "deb: dpkg-shlibdeps found no libraries" >&2; exit 1; }
cat >"$root/DEBIAN/control" <<TEXT
Package: learnd
Version: $version
Architecture: $arch
Maintainer: the authors of learnd <root@localhost>
Installed-Size: $(du -ks "$root/usr" | cut -f1)
Depends: $depends
Recommends: python3-pip, ca-certificates
Suggests: haproxy
Section: science
Priority: optional
Description: text classifier that learns while it serves
 An HTTP daemon that classifies texts and learns from every correction:
 at once by an exact head, and in the background by fine-tuning its encoder.
 learnctl is its command line; learnd-fetch-model fetches the default encoder.
TEXT
(cd "$root" && find etc -type f -printf '/%p\n' | sort) >"$root/DEBIAN/conffiles"
install -m 755 deploy/deb/postinst deploy/deb/prerm deploy/deb/postrm "$root/DEBIAN"
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
dpkg-deb --root-owner-group --build "$root" "$package" >/dev/null
rm -rf "$work"
echo "$package"
