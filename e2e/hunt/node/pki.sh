#!/bin/sh
# A PKI as a charge point operator has it: a root, an issuing CA for stations, a
# server certificate. Usage: pki.sh DIR
set -eu
mkdir -p "$1"; cd "$1"
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
of="/C=DE/O=Example Charging Networks GmbH/OU=Charging Station PKI/CN=Example Charging Networks"
key root
openssl req -x509 -new -key root.key -sha256 -days 3650 -subj "$of Root CA 2026" -out root.crt
key issuing
openssl req -new -key issuing.key -subj "$of Stations Issuing CA 07" -out issuing.csr
printf 'basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n' > issuing.ext
openssl x509 -req -in issuing.csr -CA root.crt -CAkey root.key -set_serial 2 -sha256 -days 1825 -extfile issuing.ext -out issuing.crt 2>/dev/null
key server
openssl req -new -key server.key -subj "/CN=localhost" -out server.csr
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' > server.ext
openssl x509 -req -in server.csr -CA root.crt -CAkey root.key -set_serial 3 -sha256 -days 365 -extfile server.ext -out server.crt 2>/dev/null
cat issuing.crt root.crt > ca.crt # what signs stations, with what stands above it
rm -f ./*.csr ./*.ext
