#!/usr/bin/env bash
# Certificates for development, by openssl; in production they come from your own authority.
#
#   certificates.sh DIR [HOST…]        an authority and a server certificate for these names (default localhost, 127.0.0.1, mosquitto)
#   certificates.sh DIR device NAME    a client certificate whose CN is the device's user name
#
# What is there is kept: the authority is made once, so that devices that trust it go on trusting it.
set -euo pipefail
umask 077

dir="${1:?a folder for the certificates}"
shift
mkdir -p "$dir"

if [ ! -f "$dir/ca.key" ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj '/CN=twinmesh development CA' \
    -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign,cRLSign' \
    -keyout "$dir/ca.key" -out "$dir/ca.crt" 2>/dev/null
fi

# sign NAME CN EXTENSIONS
sign() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" -keyout "$dir/$1.key" -out "$dir/$1.csr" 2>/dev/null
  openssl x509 -req -in "$dir/$1.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -set_serial "0x$(openssl rand -hex 16)" -days 825 \
    -extfile <(printf '%s\n' "$3") -out "$dir/$1.crt" 2>/dev/null
  rm -f "$dir/$1.csr"
}

if [ "${1:-}" = device ]; then
  name="${2:?the name of the device}"
  [[ "$name" =~ ^[A-Za-z0-9._-]{1,64}$ ]] || { echo "a device name has 1 to 64 characters of A-Z a-z 0-9 . _ -" >&2; exit 2; }
  sign "device-$name" "$name" 'extendedKeyUsage=clientAuth'
  echo "$dir/device-$name.crt"
elif [ ! -f "$dir/server.crt" ]; then
  [ "$#" -gt 0 ] || set -- localhost 127.0.0.1 mosquitto
  names=''
  for host in "$@"; do
    if [[ "$host" =~ ^[0-9.]+$|: ]]; then names+="${names:+,}IP:$host"; else names+="${names:+,}DNS:$host"; fi
  done
  sign server "$1" "extendedKeyUsage=serverAuth
subjectAltName=$names"
  echo "$dir/server.crt"
fi
