module pointsman/benches/quamina

go 1.24
