# SPDX-License-Identifier: MIT
use strict; use Digest::MD5 qw(md5_hex); use Digest::SHA qw(sha512_hex); use Math::BigInt; use Math::BigFloat; use POSIX qw(fmod strtod floor); use List::Util qw(sum reduce shuffle); use MIME::Base64; use Storable; use Data::Dumper;
my $s = 12345; my @v = map { $s = ($s * 1103515245 + 12345) % 2147483648; $s / 1e5 } 1 .. 3000;
print md5_hex(join ",", map { sprintf "%.17g %e %a", $_, sin($_), atan2($_, 3) ** .5 } @v), "\n";
print sha512_hex(pack("d*f*Nnv", @v[0 .. 99], @v[100 .. 199], 1, 2, 3)), "\n";
print Math::BigInt->new(3)->bpow(500), "\n", Math::BigFloat->bpi(200), "\n", Math::BigInt->new(120)->bfac, "\n";
print join(" ", (sort { $a <=> $b } @v)[0 .. 4]), " ", sum(@v), " ", floor(-3.5), " ", fmod(17.3, 5.1), " ", 10 / 3, " ", 2 ** 0.5, " ", 1e15 * 10, " ", 0.1 + 0.2 - 0.3, "\n";
my %h; $h{$_ % 97}++ for map { int } @v; print join(",", map { "$_=$h{$_}" } sort { $a <=> $b } keys %h), "\n";
my $t = "the quick brown fox " x 50; (my $u = $t) =~ s/(\w+) (\w+)/$2 $1/g; $u =~ tr/a-m/n-z/; print md5_hex($u), " ", scalar(() = $t =~ /o/g), " ", encode_base64(md5_hex($u)), "\n";
