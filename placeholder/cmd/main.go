package main
import _ "sconce.dev/sconce/placeholder"
func main(){}
